//! Which model an experiment trains.

use crate::models::Model;
use crate::models::language::Language;
use crate::models::mlp::Mlp;
use crate::models::resnet20::{ResNet, ResNet20};
use crate::models::sentences::SentenceNet;
use crate::models::sigmoid_mlp::SigmoidMlp;
use crate::models::small::{SmallAlexNet, SmallVgg};
use crate::models::vgg::Vgg;
use experiments::experiment::{self, Experiment};

/// What is to be done with a model of any type.
pub trait WithModel {
    type Output;
    fn with<M: Model>(self) -> Self::Output;
}

/// Does it with the experiment's model.
///
/// # Panics
/// If the experiment is none of [`experiment::ALL`].
pub fn with_model_of<F: WithModel>(experiment: &Experiment, f: F) -> F::Output {
    macro_rules! models {
        ($($experiment:ident: $model:ty,)*) => {
            match experiment.name {
                $(name if name == experiment::$experiment.name => f.with::<$model>(),)*
                name => panic!("the experiment {name} has no model"),
            }
        };
    }
    models! {
        MLP_MNIST: Mlp,
        VGG_CIFAR10: Vgg,
        RESNET20_CIFAR10: ResNet20,
        TSO_VGG_FASHION: SmallVgg<1, 28>,
        TSO_ALEXNET_FASHION: SmallAlexNet<1, 28>,
        TSO_VGG_CIFAR10: SmallVgg<3, 32>,
        TSO_ALEXNET_CIFAR10: SmallAlexNet<3, 32>,
        TSO_VGG_CIFAR100: SmallVgg<3, 32>,
        TSO_ALEXNET_CIFAR100: SmallAlexNet<3, 32>,
        TSO_VGG_SVHN: SmallVgg<3, 32>,
        TSO_ALEXNET_SVHN: SmallAlexNet<3, 32>,
        BNG_MLP_6: SigmoidMlp<6, true>,
        BNG_MLP_12: SigmoidMlp<12, true>,
        BNG_MLP_18: SigmoidMlp<18, true>,
        BNG_MLP_6_TORCH: SigmoidMlp<6, false>,
        BNG_MLP_12_TORCH: SigmoidMlp<12, false>,
        BNG_MLP_18_TORCH: SigmoidMlp<18, false>,
        BNG_RESNET_20: ResNet<3, false>,
        BNG_RESNET_32: ResNet<5, false>,
        BNG_RESNET_44: ResNet<7, false>,
        BNG_RESNET_56: ResNet<9, false>,
        BNG_RESNET_110: ResNet<18, false>,
        BNG_LANGUAGE: Language,
        BNG_SENTENCES: SentenceNet,
    }
}

/// The name of the experiment's model.
pub fn model_name(experiment: &Experiment) -> &'static str {
    struct Name;
    impl WithModel for Name {
        type Output = &'static str;
        fn with<M: Model>(self) -> &'static str {
            M::NAME
        }
    }
    with_model_of(experiment, Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_has_a_model() {
        for experiment in experiment::ALL {
            assert!(!model_name(experiment).is_empty());
        }
    }
}
