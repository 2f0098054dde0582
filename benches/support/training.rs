//! ResNet-20 and the MLP in training, one step at a time, with each of the optimizers that are compared.
#![allow(dead_code)] // each bench uses its own part

use crate::support::{Times, device, in_turn, synchronize};
use counter::Counter;
use criterion::Criterion;
pub use models::Model;
pub use models::mlp::Mlp;
pub use models::resnet20::ResNet20;
use std::time::{Duration, Instant};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Kind, Tensor};
use tch_svgd::hatted::Hatted;
use tch_svgd::{Granularity, Plain, Svgd, SvgdConfig, TsoAlra};

#[path = "../../training/src/models/mod.rs"]
mod models;

/// A model with its optimizer.
pub struct Trainer {
    model: Box<dyn ModuleT>,
    optimizer: nn::Optimizer,
    parameters: nn::VarStore,
    svgd: Option<Svgd>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Method {
    Sgd,
    Adam,
    SvgdElement,
    SvgdChannel,
    /// Layers of a method that does nothing: what the mechanism itself takes.
    Nothing,
}

impl Method {
    pub const ALL: [Method; 5] = [Method::SvgdElement, Method::SvgdChannel, Method::Sgd, Method::Adam, Method::Nothing];

    pub fn name(self) -> &'static str {
        match self {
            Method::Sgd => "sgd",
            Method::Adam => "adam",
            Method::SvgdElement => "svgd_element",
            Method::SvgdChannel => "svgd_channel",
            Method::Nothing => "nothing",
        }
    }

    fn granularity(self) -> Option<Granularity> {
        match self {
            Method::SvgdElement => Some(Granularity::Element),
            Method::SvgdChannel => Some(Granularity::Channel),
            Method::Sgd | Method::Adam | Method::Nothing => None,
        }
    }
}

fn nothing() -> Hatted<Counter> {
    Hatted::new(counter::Config::default()).unwrap()
}

impl Trainer {
    /// ResNet-20 with `width` times its channels.
    pub fn resnet20(method: Method, width: i64) -> Self {
        Self::new(method, |svgd, p| match (svgd, method) {
            (Some(svgd), _) => Box::new(ResNet20::of_width(svgd, p, 10, width)),
            (None, Method::Nothing) => Box::new(ResNet20::of_width(&nothing(), p, 10, width)),
            (None, _) => Box::new(ResNet20::of_width(&Plain, p, 10, width)),
        })
    }

    /// The paper's multilayer perceptron.
    pub fn mlp(method: Method) -> Self {
        Self::new(method, |svgd, p| match (svgd, method) {
            (Some(svgd), _) => Box::new(Mlp::new(svgd, p, 10)),
            (None, Method::Nothing) => Box::new(Mlp::new(&nothing(), p, 10)),
            (None, _) => Box::new(Mlp::new(&Plain, p, 10)),
        })
    }

    /// With the paper's rates of the first phase.
    fn new(method: Method, model: impl Fn(Option<&Svgd>, &nn::Path) -> Box<dyn ModuleT>) -> Self {
        let parameters = nn::VarStore::new(device());
        let svgd = method
            .granularity()
            .map(|granularity| Svgd::new(SvgdConfig { scale: 0.01, granularity, ..Default::default() }).unwrap());
        let model = model(svgd.as_ref(), &parameters.root());
        let optimizer = match method {
            Method::Sgd | Method::Nothing => nn::Sgd::default().build(&parameters, 0.1),
            Method::Adam => nn::Adam::default().build(&parameters, 1e-3),
            Method::SvgdElement | Method::SvgdChannel => nn::Sgd::default().build(&parameters, 0.5),
        };
        Trainer { model, optimizer: optimizer.unwrap(), parameters, svgd }
    }

    /// ResNet-20 with layers of TSO-ALRA's.
    pub fn of_tso_alra(tso: &TsoAlra) -> Self {
        let parameters = nn::VarStore::new(device());
        let model = Box::new(ResNet20::of_width(tso, &parameters.root(), 10, 1));
        let optimizer = nn::Sgd::default().build(&parameters, 0.1).unwrap();
        Trainer { model, optimizer, parameters, svgd: None }
    }

    fn backward(&mut self, batch: &Batch) {
        let loss = batch.loss(self.model.as_ref());
        self.optimizer.zero_grad();
        loss.backward();
    }

    pub fn step(&mut self, batch: &Batch) {
        self.backward(batch);
        self.optimizer.step();
    }

    /// A training step, and how long the optimizer alone took after the backward pass.
    pub fn optimizer_time(&mut self, batch: &Batch) -> Duration {
        self.backward(batch);
        synchronize(device());
        let start = Instant::now();
        self.optimizer.step();
        synchronize(device());
        start.elapsed()
    }

    /// Bytes that the optimizer keeps between steps.
    pub fn state_bytes(&self, method: Method) -> usize {
        let parameters: usize = self.parameters.trainable_variables().iter().map(|t| t.numel() * 4).sum();
        match method {
            Method::Sgd | Method::Nothing => 0,
            Method::Adam => 2 * parameters,
            Method::SvgdElement | Method::SvgdChannel => self.svgd.as_ref().map_or(0, Svgd::state_bytes),
        }
    }
}

/// Random images with random labels.
pub struct Batch {
    images: Tensor,
    labels: Tensor,
}

impl Batch {
    /// In CIFAR-10's size.
    pub fn cifar10(size: i64) -> Self {
        Self::new(&[size, 3, 32, 32])
    }

    /// In MNIST's size.
    pub fn mnist(size: i64) -> Self {
        Self::new(&[size, 1, 28, 28])
    }

    /// What a model is trained to lessen.
    pub fn loss(&self, model: &(impl ModuleT + ?Sized)) -> Tensor {
        model.forward_t(&self.images, true).cross_entropy_for_logits(&self.labels)
    }

    fn new(images: &[i64]) -> Self {
        let size = images[0];
        let images = Tensor::randn(images, (Kind::Float, device()));
        Batch { images, labels: Tensor::randint(10, [size], (Kind::Int64, device())) }
    }
}

/// Training steps of every method in turn, on the same images.
pub fn times(
    criterion: &mut Criterion,
    group: &str,
    case: &str,
    trainers: &mut [(Method, Trainer)],
    batch: &Batch,
) -> Option<Times> {
    let routines = trainers.iter_mut().map(|(method, trainer)| {
        let routine: Box<dyn FnMut()> = Box::new(move || trainer.step(batch));
        (method.name(), routine)
    });
    in_turn(criterion, group, case, 0, routines.collect())
}
