//! Fits photos of 12 megapixels on one core with face-enroll, `vipsthumbnail` (Debian: libvips-tools) and Pillow: the same
//! files, size and quality in one run. Rounds are interleaved; tools that are not installed are skipped. Then what the
//! search for a face adds, to these photos and to some that are sent unchanged.
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
use face_enroll::picture::{self, FacePolicy, QualityPolicy, Rules};

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
        let bytes: u64 = photos.iter().map(|path| fs::metadata(path).expect("file was written").len()).sum();
        println!("{name}: {PHOTOS} photos of {}x{}, {:.1} MB each", SIZE.0, SIZE.1, bytes as f64 / 1e6 / PHOTOS as f64);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(Some(face_enroll(dir.path(), &photos)));
            times[1].push(vips(dir.path(), &photos));
            times[2].push(pillow(dir.path(), &photos));
        }
        let best = |times: &[Option<Duration>]| times.iter().flatten().min().copied();
        let ours = best(&times[0]).expect("face-enroll has run");
        for (tool, times) in ["face-enroll", "vipsthumbnail", "Pillow (draft)"].iter().zip(&times) {
            match best(times) {
                Some(time) => println!(
                    "  {tool:<15} {:>6.1} ms per photo, {:.2} x face-enroll",
                    time.as_secs_f64() * 1e3 / PHOTOS as f64,
                    time.as_secs_f64() / ours.as_secs_f64()
                ),
                None => println!("  {tool:<15} is not installed"),
            }
        }
        faces("fitted", &photos);
    }
    let samples = |n| PathBuf::from(format!("{}/samples/photos/collins-{n:02}.jpg", env!("CARGO_MANIFEST_DIR")));
    println!("12 photos of 480x640");
    faces("sent unchanged", &(1..=12).map(samples).collect::<Vec<_>>());
}

/// Compares `--faces warn` with `ignore`. Photos are decoded in any case, as `check` does.
fn faces(name: &str, photos: &[PathBuf]) {
    let load = |faces| {
        let rules = Rules { quality: QualityPolicy::Warn, faces, ..Rules::default() };
        let started = Instant::now();
        for path in photos {
            picture::load(path, &rules).expect("photo can be sent");
        }
        started.elapsed()
    };
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(load(FacePolicy::Ignore));
        best[1] = best[1].min(load(FacePolicy::Warn));
    }
    let [without, with] = best.map(|time| time.as_secs_f64() * 1e3 / photos.len() as f64);
    println!("  {name}: {without:.1} ms without a look for faces, {with:.1} ms with it: {:.1} ms more", with - without);
}

fn face_enroll(dir: &Path, photos: &[PathBuf]) -> Duration {
    let started = Instant::now();
    for path in photos {
        let picture = picture::load(path, &Rules::default()).expect("photo can be fitted");
        fs::write(dir.join("face-enroll.jpg"), &picture.bytes).expect("folder is writable");
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

/// Time of the whole command. Its start-up takes at most 0.1 s for ten photos.
fn time(command: &mut Command) -> Option<Duration> {
    let started = Instant::now();
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success()).then(|| started.elapsed())
}
