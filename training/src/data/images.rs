//! Images of one's own: `train/CLASS/*.png` and `test/CLASS/*.png`, or JPEG, as torchvision's ImageFolder has them.

use super::{Augmentation, Dataset, Inputs, Split};
use anyhow::{Context, Result, bail, ensure};
use experiments::benchmark::Benchmark;
use image::imageops::FilterType;
use image::{ImageReader, Limits};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The longest side of an image.
const MOST_PIXELS: u32 = 1 << 14;

/// What the folder of the test images may be called, in this order.
const TEST: [&str; 2] = ["test", "val"];

/// Whether a folder is one of images: those of data sets have no such folder in them.
pub fn is_one(folder: &Path) -> bool {
    folder.join("train").is_dir()
}

/// Reads a folder of images in the place of a data set: each is scaled to the size of that, and made grey where that is. Classes
/// are the names of the folders in train/, in the order of the alphabet.
pub fn read(folder: &Path, stand_for: Benchmark) -> Result<Dataset> {
    let shape = stand_for
        .image_shape()
        .with_context(|| format!("expected the text of {}, got a folder of images", stand_for.name()))?;
    let train = folder.join("train");
    let test = TEST.iter().map(|name| folder.join(name)).find(|folder| folder.is_dir());
    let test = test.with_context(|| format!("expected {} beside train, with the test images", TEST.join(" or ")))?;
    let classes = class_folders(&train)?;
    ensure!(
        classes.len() > 1,
        "{}: expected a folder for each of two classes or more, got {}",
        train.display(),
        classes.len()
    );
    for class in class_folders(&test)? {
        ensure!(
            classes.contains(&class),
            "{}: expected the classes of {}, got another",
            test.join(class).display(),
            train.display()
        );
    }
    let read = |folder: &Path, is_whole| read_split(folder, is_whole, &classes, shape);
    let crops = stand_for != Benchmark::Mnist;
    let inputs = Inputs::Images(Augmentation { crops, flips: stand_for.may_be_mirrored() });
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    // A title of tables, which is one line.
    let name = name.file_name().unwrap_or_default().to_string_lossy().replace(char::is_control, " ");
    let data = Dataset::new(&name, classes.len() as i64, inputs, read(&train, true)?, read(&test, false)?);
    Ok(Dataset { class_names: classes, ..data })
}

/// The names in a folder, but for hidden ones, in the order of the alphabet.
fn names(folder: &Path) -> Result<Vec<String>> {
    let unreadable = || format!("{}: cannot be read", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let name =
            name.to_str().with_context(|| format!("{}: a name that is no UTF-8", folder.join(&name).display()))?;
        if !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn class_folders(split: &Path) -> Result<Vec<String>> {
    let names = names(split)?;
    for name in &names {
        let path = split.join(name);
        ensure!(path.is_dir(), "{}: expected a folder for each class, got a file", path.display());
    }
    Ok(names)
}

/// One that is `is_whole` has images of every class.
fn read_split(split: &Path, is_whole: bool, classes: &[String], [channels, side]: [i64; 2]) -> Result<Split> {
    let mut files: Vec<(PathBuf, i64)> = Vec::new();
    for (class, label) in classes.iter().zip(0..) {
        let folder = split.join(class);
        if is_whole || folder.is_dir() {
            let names = names(&folder)?;
            ensure!(!names.is_empty(), "{}: expected images, found none", folder.display());
            files.extend(names.into_iter().map(|name| (folder.join(name), label)));
        }
    }
    ensure!(!files.is_empty(), "{}: expected images, found none", split.display());
    // Held out are the last ones: they are to be of all classes. Always in the same order.
    files.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = files.len().div_ceil(workers);
    let open_all = |files: &[(PathBuf, i64)]| -> Result<Vec<u8>> {
        let pixels: Vec<Vec<u8>> = files.iter().map(|(path, _)| open(path, channels, side)).collect::<Result<_>>()?;
        Ok(pixels.concat())
    };
    let parts: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = files.chunks(share).map(|files| scope.spawn(|| open_all(files))).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|part| part.unwrap_or_else(|_| bail!("{}: a panic of the image decoder", split.display()))).collect()
    });
    let pixels = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let labels: Vec<i64> = files.iter().map(|&(_, label)| label).collect();
    Ok(Split { inputs: as_tensor(&pixels, channels, side), labels: Tensor::from_slice(&labels) })
}

/// An image as one of a data set's, `[1, channels, side, side]`.
pub fn read_one(path: &Path, channels: i64, side: i64) -> Result<Tensor> {
    Ok(as_tensor(&open(path, channels, side)?, channels, side))
}

/// The pixels, of which all channels stand together.
fn open(path: &Path, channels: i64, side: i64) -> Result<Vec<u8>> {
    // By what is in it: its name may say something else.
    let decoded = || {
        let mut reader = ImageReader::open(path)?.with_guessed_format()?;
        // One that is long and narrow is no longer small while it is scaled.
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MOST_PIXELS), Some(MOST_PIXELS));
        reader.limits(limits);
        reader.decode()
    };
    let image = decoded().with_context(|| format!("{}: expected a PNG or JPEG", path.display()))?;
    // One that has the size stays as it is.
    let image = image.resize_exact(side as u32, side as u32, FilterType::Triangle);
    Ok(if channels == 1 { image.to_luma8().into_raw() } else { image.to_rgb8().into_raw() })
}

fn as_tensor(pixels: &[u8], channels: i64, side: i64) -> Tensor {
    Tensor::from_slice(pixels).view([-1, side, side, channels]).permute([0, 3, 1, 2]).contiguous()
}
