//! Folders of images in the place of a data set.

use crate::common::*;
use crate::programs::*;
use experiments::benchmark::Benchmark;
use std::path::Path;
use training::data::{DataSource, Split, digits, load};

/// Images of the digits 0 to 3, in colour and of twice the size, in folders of their names.
fn write(folder: &Path, split: &Split, name: &str, count: i64) {
    for at in 0..count.min(split.len() as i64) {
        let label = split.labels.int64_value(&[at]);
        let class = folder.join(name).join(["zero", "one", "two", "three"].get(label as usize).unwrap_or(&"more"));
        if label < 4 {
            std::fs::create_dir_all(&class).unwrap();
            let pixels: Vec<u8> = Vec::try_from(split.inputs.get(at).flatten(0, -1)).unwrap();
            let image = image::GrayImage::from_raw(28, 28, pixels).unwrap();
            let image = image::imageops::resize(&image, 56, 56, image::imageops::FilterType::Nearest);
            image::DynamicImage::from(image).to_rgb8().save(class.join(format!("{at:04}.png"))).unwrap();
        }
    }
}

fn write_digits(folder: &Path) {
    let data = digits::load(Benchmark::Mnist).unwrap();
    write(folder, &data.train, "train", 800);
    write(folder, &data.test, "val", 200);
}

#[test]
fn a_folder_of_images_trains_and_its_classes_have_names() {
    let folder = tempfile::tempdir().unwrap();
    write_digits(&folder.path().join("my<digits>"));
    // What systems leave there.
    std::fs::write(folder.path().join("my<digits>/train/zero/.DS_Store"), "").unwrap();
    let options = "--data my<digits> --optimizer svgd --epochs 6 --validation 0.1 --out out";
    let text = stdout(&run(&mut mlp(folder.path(), &words(options))));
    assert!(text.contains("MLP on my<digits> (unverified, "), "{text}");
    let svgd = folder.path().join("out/svgd-seed0");
    let errors: Vec<f64> = curve(&svgd).iter().map(|row| row[4]).collect();
    assert!(*errors.last().unwrap() < 10.0, "{errors:?}");
    let text = stdout(&run(&mut training("evaluate", folder.path(), &["out/svgd-seed0"])));
    // In the order of the alphabet.
    let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).collect();
    assert_eq!(rows[1..], ["one", "three", "two", "zero"], "{text}");
    let three = folder.path().join("my<digits>/val/three").read_dir().unwrap().next().unwrap().unwrap().path();
    let text = stdout(&run(&mut training("predict", folder.path(), &["out/svgd-seed0", three.to_str().unwrap()])));
    assert!(text.contains(".png: three "), "{text}");
    // It needs no data for that.
    std::fs::rename(folder.path().join("my<digits>"), folder.path().join("moved")).unwrap();
    let moved = Path::new("moved/val/three").join(three.file_name().unwrap());
    let text = stdout(&run(&mut training("predict", folder.path(), &["out/svgd-seed0", moved.to_str().unwrap()])));
    assert!(text.contains(".png: three "), "{text}");
    // Data with other classes are told in a sentence.
    let text = run_refused(&mut training("evaluate", folder.path(), &words("out/svgd-seed0 --data digits")));
    assert!(text.contains("expected data of as many classes as the run's, got 10"), "{text}");
    assert!(!text.contains("frame #"), "{text}");
}

/// The same files are the same data, held out are images of all classes, and an image is what it was.
#[test]
fn images_are_read_in_one_order_that_mixes_the_classes() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("two\nlines");
    write_digits(&folder);
    let read = || load(&DataSource::Folder(folder.clone()), Benchmark::Mnist).unwrap();
    let (data, again) = (read(), read());
    assert_eq!(data.digest, again.digest);
    assert!(data.name.starts_with("two lines (unverified, "), "{}", data.name);
    let counts = data.hold_out(0.2).unwrap().validation.unwrap().labels.bincount::<tch::Tensor>(None, 4);
    assert!(Vec::<i64>::try_from(&counts).unwrap().iter().all(|&count| count > 5), "{counts:?}");
    // One that has the size is read as it is.
    let pixels: Vec<u8> = (0..28 * 28).map(|at| (at * 7 % 256) as u8).collect();
    let path = folder.join("train/one/own.png");
    image::GrayImage::from_raw(28, 28, pixels.clone()).unwrap().save(&path).unwrap();
    let image = training::data::images::read_one(&path, 1, 28).unwrap();
    assert_eq!(image, tch::Tensor::from_slice(&pixels).view([1, 1, 28, 28]));
    // Whatever its name says.
    std::fs::rename(&path, path.with_extension("jpg")).unwrap();
    assert_eq!(training::data::images::read_one(&path.with_extension("jpg"), 1, 28).unwrap(), image);
}

#[test]
fn folders_that_are_none_of_images_are_told() {
    let folder = tempfile::tempdir().unwrap();
    write_digits(folder.path());
    let refused = |program: &str, what: &str| {
        let text = run_refused(&mut training(program, folder.path(), &words("--data . --steps 1 --out out")));
        assert!(text.contains(what), "'{what}' is not in {text}");
    };
    refused("bng_sentences", "expected the text of Rotten Tomatoes, got a folder of images");
    let part = |path: &str| folder.path().join(path);
    std::fs::rename(part("val"), part("validation")).unwrap();
    refused("mlp_mnist", "expected test or val beside train, with the test images");
    std::fs::rename(part("validation"), part("val")).unwrap();
    std::fs::create_dir(part("train/ten")).unwrap();
    refused("mlp_mnist", "train/ten: expected images, found none");
    std::fs::remove_dir(part("train/ten")).unwrap();
    std::fs::write(part("train/one/notes.txt"), "of the dentist").unwrap();
    refused("mlp_mnist", "notes.txt: expected a PNG or JPEG");
    std::fs::remove_file(part("train/one/notes.txt")).unwrap();
    std::fs::rename(part("val/one"), part("one")).unwrap();
    std::fs::create_dir(part("val/one")).unwrap();
    refused("mlp_mnist", "val/one: expected images, found none");
    std::fs::remove_dir(part("val/one")).unwrap();
    std::fs::rename(part("one"), part("val/one")).unwrap();
    std::fs::create_dir(part("val/four")).unwrap();
    refused("mlp_mnist", "val/four: expected the classes of ./train, got another");
    std::fs::remove_dir(part("val/four")).unwrap();
    std::fs::write(part("train/list.csv"), "").unwrap();
    refused("mlp_mnist", "list.csv: expected a folder for each class, got a file");
    std::fs::remove_file(part("train/list.csv")).unwrap();
    for class in ["two", "three", "zero"] {
        std::fs::remove_dir_all(part("train").join(class)).unwrap();
    }
    refused("mlp_mnist", "expected a folder for each of two classes or more, got 1");
}
