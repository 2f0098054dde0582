//! TSO-ALRA's networks, VGG and AlexNet with kernels and strides that fit small images, and few channels: what two cores train
//! in minutes. There is no batch norm in them.

use super::Model;
use tch::Tensor;
use tch::nn::{self, Module};
use tch_svgd::Layers;

/// Convolutions that keep the size, with ReLU, and pooling to half of it; and dense layers.
#[derive(Debug)]
pub struct SmallNet {
    groups: Vec<Vec<Box<dyn Module>>>,
    hidden: Box<dyn Module>,
    head: Box<dyn Module>,
}

/// One convolution: its side, and its channels.
type Convolution = (i64, i64);

impl SmallNet {
    fn new<L: Layers>(
        layers: &L,
        p: &nn::Path,
        classes: i64,
        image: [i64; 2],
        groups: &[&[Convolution]],
        hidden: i64,
    ) -> Self {
        let [mut channels, mut side] = image;
        let mut built = Vec::new();
        for (group, number) in groups.iter().zip(1..) {
            let mut convolutions: Vec<Box<dyn Module>> = Vec::new();
            for (&(ksize, outputs), place) in group.iter().zip(1..) {
                let config = nn::ConvConfig { padding: ksize / 2, ..Default::default() };
                let path = p / format!("group{number}_conv{place}");
                convolutions.push(Box::new(layers.conv2d(path, channels, outputs, ksize, config)));
                channels = outputs;
            }
            built.push(convolutions);
            side /= 2;
        }
        let features = channels * side * side;
        SmallNet {
            groups: built,
            hidden: Box::new(layers.linear(p / "hidden", features, hidden, Default::default())),
            head: Box::new(layers.linear(p / "head", hidden, classes, Default::default())),
        }
    }

    fn forward(&self, xs: &Tensor) -> Tensor {
        let group = |xs: Tensor, convolutions: &Vec<Box<dyn Module>>| {
            convolutions.iter().fold(xs, |xs, convolution| convolution.forward(&xs).relu()).max_pool2d_default(2)
        };
        let features = self.groups.iter().fold(xs.shallow_clone(), group).flatten(1, -1);
        self.head.forward(&self.hidden.forward(&features).relu())
    }
}

/// The number of parameters for ten classes.
const fn parameters(image: [i64; 2], groups: &[&[Convolution]], hidden: i64) -> usize {
    let ([mut channels, mut side], mut sum) = (image, 0);
    let mut group = 0;
    while group < groups.len() {
        let mut place = 0;
        while place < groups[group].len() {
            let (ksize, outputs) = groups[group][place];
            sum += outputs * (channels * ksize * ksize + 1);
            channels = outputs;
            place += 1;
        }
        side /= 2;
        group += 1;
    }
    (sum + hidden * (channels * side * side + 1) + 10 * (hidden + 1)) as usize
}

macro_rules! small_net {
    ($(#[$doc:meta])* $name:ident, $title:literal, $groups:expr, $hidden:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<const CHANNELS: i64, const SIDE: i64>(SmallNet);

        impl<const CHANNELS: i64, const SIDE: i64> Model for $name<CHANNELS, SIDE> {
            const NAME: &'static str = $title;
            const PARAMETERS: usize = parameters([CHANNELS, SIDE], $groups, $hidden);
            // Made for batch norms, of which there are none.
            const AS_SVGDS_AUTHORS: bool = false;

            fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
                Self(SmallNet::new(layers, p, classes, [CHANNELS, SIDE], $groups, $hidden))
            }
        }

        impl<const CHANNELS: i64, const SIDE: i64> Module for $name<CHANNELS, SIDE> {
            fn forward(&self, xs: &Tensor) -> Tensor {
                self.0.forward(xs)
            }
        }
    };
}

small_net!(
    /// Pairs of 3x3 convolutions.
    SmallVgg,
    "small VGG",
    &[&[(3, 16), (3, 16)], &[(3, 32), (3, 32)]],
    64
);
small_net!(
    /// Two convolutions of 5x5, and three of 3x3 in a row.
    SmallAlexNet,
    "small AlexNet",
    &[&[(5, 16)], &[(5, 32)], &[(3, 48), (3, 48), (3, 32)]],
    128
);
