//! Fitting photos of 12 megapixels, one core: ours beside `vipsthumbnail` (Debian: libvips-tools) and Pillow, in one run,
//! on the same files, to the same size and quality. Rounds are interleaved; what is not installed is left out.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench fit            # PILLOW_PYTHON=/path/to/python for one that has Pillow
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use face_enroll::picture::{self, Rules};
use fast_image_resize::{PixelType, Resizer, images::Image};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const PHOTOS: usize = 10;
const ROUNDS: usize = 5;
const SIZE: (u32, u32) = (3_024, 4_032);

const PILLOW: &str = "
import sys
from PIL import Image
for path in sys.argv[2:]:
    image = Image.open(path)
    image.draft('RGB', (720, 960))
    image.resize((720, 960), Image.LANCZOS).save(sys.argv[1] + '/pillow.jpg', quality=80)
";

fn main() {
    let dir = tempfile::tempdir().expect("a folder for the photos");
    for (name, progressive) in [("baseline", false), ("progressive", true)] {
        let photos: Vec<PathBuf> = (0..PHOTOS).map(|n| make(dir.path(), n, progressive)).collect();
        let bytes: u64 = photos.iter().map(|path| fs::metadata(path).expect("it was written").len()).sum();
        println!("{name}: {PHOTOS} photos of {}x{}, {:.1} MB each", SIZE.0, SIZE.1, bytes as f64 / 1e6 / PHOTOS as f64);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(Some(ours(dir.path(), &photos)));
            times[1].push(vips(dir.path(), &photos));
            times[2].push(pillow(dir.path(), &photos));
        }
        let best = |times: &[Option<Duration>]| times.iter().flatten().min().copied();
        let mine = best(&times[0]).expect("ours has run");
        for (tool, times) in ["face-enroll", "vipsthumbnail", "Pillow (draft)"].iter().zip(&times) {
            match best(times) {
                Some(time) => println!(
                    "  {tool:<15} {:>6.1} ms a photo, {:.2} of ours",
                    time.as_secs_f64() * 1e3 / PHOTOS as f64,
                    time.as_secs_f64() / mine.as_secs_f64()
                ),
                None => println!("  {tool:<15} is not here"),
            }
        }
    }
}

/// The real portrait, enlarged, with the noise of a sensor, as a camera saves it.
fn make(dir: &Path, n: usize, progressive: bool) -> PathBuf {
    let portrait = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/portrait.jpg");
    let mut decoder = jpeg_decoder::Decoder::new(fs::File::open(portrait).expect("the portrait is in the repository"));
    let pixels = decoder.decode().expect("the portrait can be decoded");
    let source = Image::from_vec_u8(720, 960, pixels, PixelType::U8x3).expect("720 x 960 pixels");
    let mut large = Image::new(SIZE.0, SIZE.1, PixelType::U8x3);
    Resizer::new().resize(&source, &mut large, None).expect("it can be enlarged");
    let mut random = fastrand::Rng::with_seed(n as u64);
    for value in large.buffer_mut() {
        *value = value.saturating_add_signed(random.i8(-6..=6));
    }
    let path = dir.join(format!("{n}.jpg"));
    let mut encoder = Encoder::new_file(&path, 92).expect("the folder can be written");
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_progressive(progressive);
    encoder.encode(large.buffer(), SIZE.0 as u16, SIZE.1 as u16, ColorType::Rgb).expect("it can be encoded");
    path
}

fn ours(dir: &Path, photos: &[PathBuf]) -> Duration {
    let started = Instant::now();
    for path in photos {
        let picture = picture::load(path, &Rules::default()).expect("it can be fitted");
        fs::write(dir.join("ours.jpg"), &picture.bytes).expect("the folder can be written");
    }
    started.elapsed()
}

fn vips(dir: &Path, photos: &[PathBuf]) -> Option<Duration> {
    let output = format!("{}/vips.jpg[Q=80,strip]", dir.display());
    time(
        Command::new("vipsthumbnail")
            .args(["--size", "720x960", "-o", &output])
            .args(photos)
            .env("VIPS_CONCURRENCY", "1"),
    )
}

fn pillow(dir: &Path, photos: &[PathBuf]) -> Option<Duration> {
    let python = std::env::var("PILLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    time(Command::new(python).args(["-c", PILLOW]).arg(dir).args(photos))
}

/// Of the whole command, its start included: a tenth of a second at most, for ten photos.
fn time(command: &mut Command) -> Option<Duration> {
    let started = Instant::now();
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success()).then(|| started.elapsed())
}
