//! The data sets of the experiments: their names, and the folders below data/ that hold them.

/// A data set. How its files are read is the business of the programs that train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// 28x28 images in grey, as they are.
    Mnist,
    /// As MNIST, of clothes, cropped and mirrored.
    FashionMnist,
    /// 32x32 images in colour, cropped and mirrored.
    Cifar10,
    /// The same of a hundred classes.
    Cifar100,
    /// 32x32 house numbers in colour, cropped.
    Svhn,
    /// The words of the King James Bible, each to be told from those before it.
    KingJames,
    /// Sentences of film reviews, for or against.
    Sentences,
}

impl Benchmark {
    /// Its name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::Mnist => "MNIST",
            Benchmark::FashionMnist => "Fashion-MNIST",
            Benchmark::Cifar10 => "CIFAR-10",
            Benchmark::Cifar100 => "CIFAR-100",
            Benchmark::Svhn => "SVHN",
            Benchmark::KingJames => "King James Bible",
            Benchmark::Sentences => "Rotten Tomatoes",
        }
    }

    /// The channels and the side of its images, where it has some.
    pub fn image_shape(self) -> Option<[i64; 2]> {
        match self {
            Benchmark::Mnist | Benchmark::FashionMnist => Some([1, 28]),
            Benchmark::Cifar10 | Benchmark::Cifar100 | Benchmark::Svhn => Some([3, 32]),
            Benchmark::KingJames | Benchmark::Sentences => None,
        }
    }

    /// Whether the mirror image of one is of the same class.
    pub fn may_be_mirrored(self) -> bool {
        matches!(self, Benchmark::FashionMnist | Benchmark::Cifar10 | Benchmark::Cifar100)
    }

    /// What its samples are called.
    pub fn samples(self) -> &'static str {
        match self {
            Benchmark::KingJames => "windows of 40 words",
            Benchmark::Sentences => "sentences",
            _ => "images",
        }
    }

    /// The name of a class: its number, where the data set has no names.
    pub fn class_name(self, class: i64) -> String {
        const CLOTHES: [&str; 10] =
            ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"];
        const THINGS: [&str; 10] =
            ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
        let names: &[&str] = match self {
            Benchmark::FashionMnist => &CLOTHES,
            Benchmark::Cifar10 => &THINGS,
            Benchmark::Sentences => &["against", "for"],
            Benchmark::Mnist | Benchmark::Cifar100 | Benchmark::Svhn | Benchmark::KingJames => &[],
        };
        names.get(class as usize).map_or_else(|| class.to_string(), |name| (*name).to_owned())
    }

    /// The folder of its files below data/.
    pub fn folder(self) -> &'static str {
        match self {
            Benchmark::Mnist => "mnist",
            Benchmark::FashionMnist => "fashion-mnist",
            Benchmark::Cifar10 => "cifar-10-batches-bin",
            Benchmark::Cifar100 => "cifar-100-binary",
            Benchmark::Svhn => "svhn",
            Benchmark::KingJames => "king-james",
            Benchmark::Sentences => "rotten-tomatoes",
        }
    }
}
