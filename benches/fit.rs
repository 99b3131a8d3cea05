//! Fitting photos of 12 megapixels, one core: ours beside `vipsthumbnail` (Debian: libvips-tools) and Pillow, in one run,
//! on the same files, to the same size and quality. Rounds are interleaved; what is not installed is left out.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench fit            # PILLOW_PYTHON=/path/to/python for one that has Pillow
//! ```

#![allow(unreachable_pub)]

#[path = "common/camera.rs"]
mod camera;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use camera::{SIZE, photo};
use face_enroll::picture::{self, Rules};

const PHOTOS: usize = 10;
const ROUNDS: usize = 5;

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
        let photos: Vec<PathBuf> = (0..PHOTOS).map(|n| photo(dir.path(), n, progressive)).collect();
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
