//! The rules of the optimizers: their settings' ranges, their state, and their calls.

use super::{AdaGrad, Adam, Optim, RmsProp, Sgd};
use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::{Error, Result};
use crate::hatted::method::Sealed;
use cxx::{CxxVector, UniquePtr};
use std::fmt;
use tch::{Tensor, nn};

type TensorList = UniquePtr<CxxVector<ffi::Tensor>>;

/// What a step is given: parameters of one device and kind.
pub struct Lists {
    pub(super) parameters: TensorList,
    pub(super) gradients: TensorList,
    /// In the order of [`Rule::state`].
    pub(super) states: Vec<TensorList>,
    /// In the place of a state that the settings do without.
    pub(super) none: TensorList,
    /// Whether the state is new.
    pub(super) first: bool,
}

impl Lists {
    /// The state of this place, where `there` is one.
    fn state(&self, place: usize, there: bool) -> &CxxVector<ffi::Tensor> {
        if there { &self.states[place] } else { &self.none }
    }
}

/// The number of steps that a variable has had.
pub(super) const STEP: &str = "step";

/// The settings of an optimizer, and what it does with a gradient.
pub trait Rule: Sealed + Copy + fmt::Debug + Default + Send + 'static {
    /// Its name, for errors and state files.
    const NAME: &'static str;

    /// Makes an optimizer of the variables in `vs`, with this learning rate.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting or the rate is out of its range.
    fn build(self, vs: &nn::VarStore, lr: f64) -> Result<Optim<Self>> {
        Optim::new(self, vs, lr)
    }

    /// An error for a setting out of its range.
    ///
    /// # Errors
    /// [`Error::Config`], which names the setting.
    fn validate(&self) -> Result<()>;

    /// The names of a variable's state tensors, which are those of `torch.optim`.
    fn state(&self) -> Vec<&'static str>;

    #[doc(hidden)]
    fn initial(&self) -> f64 {
        0.0
    }

    #[doc(hidden)]
    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()>;

    #[doc(hidden)]
    fn fields(&self) -> Vec<(&'static str, f64)>;

    #[doc(hidden)]
    fn set_field(&mut self, name: &str, value: f64);
}

/// A setting as a number.
trait Field {
    fn number(self) -> f64;
    fn from_number(value: f64) -> Self;
}

impl Field for f64 {
    fn number(self) -> f64 {
        self
    }

    fn from_number(value: f64) -> Self {
        value
    }
}

impl Field for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }

    fn from_number(value: f64) -> Self {
        value != 0.0
    }
}

macro_rules! fields {
    ($($name:ident),*) => {
        fn fields(&self) -> Vec<(&'static str, f64)> {
            vec![$((stringify!($name), Field::number(self.$name))),*]
        }

        fn set_field(&mut self, name: &str, value: f64) {
            match name {
                $(stringify!($name) => self.$name = Field::from_number(value),)*
                _ => {}
            }
        }
    };
}

/// Checks settings, each with what is expected of it.
fn check<const N: usize>(rule: &str, settings: [(&str, f64, Range); N]) -> Result<()> {
    for (name, value, range) in settings {
        let (valid, expected) = match range {
            Range::Decay => ((0.0..1.0).contains(&value), "a number in [0, 1)"),
            Range::NotNegative => (value.is_finite() && value >= 0.0, "a finite number >= 0"),
            Range::Finite => (value.is_finite(), "a finite number"),
        };
        if !valid {
            return Err(error(rule, name, expected, value));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Range {
    Decay,
    NotNegative,
    Finite,
}

fn error(rule: &str, name: &str, expected: &str, got: impl fmt::Display) -> Error {
    Error::Config(format!("{rule}: setting '{name}': expected {expected}, got {got}; correct the setting"))
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

impl Sealed for Sgd {}

impl Rule for Sgd {
    const NAME: &'static str = "Sgd";

    fn validate(&self) -> Result<()> {
        let settings = [
            ("momentum", self.momentum, Range::NotNegative),
            ("dampening", self.dampening, Range::Finite),
            ("weight_decay", self.weight_decay, Range::NotNegative),
        ];
        check(Self::NAME, settings)?;
        match self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            true => Err(error(Self::NAME, "nesterov", "a momentum above 0 and a dampening of 0 with it", "others")),
            false => Ok(()),
        }
    }

    fn state(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { vec![] } else { vec!["momentum_buffer"] }
    }

    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()> {
        let (parameters, gradients) = (&lists.parameters, &lists.gradients);
        Ok(ffi::sgd_step(
            self,
            lr,
            lend(rate),
            parameters,
            gradients,
            lists.state(0, self.momentum != 0.0),
            lists.first,
        )?)
    }

    fields!(momentum, dampening, weight_decay, nesterov);
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            eps_inside_root: false,
            weight_decay: 0.0,
            decoupled_weight_decay: false,
            amsgrad: false,
        }
    }
}

impl Adam {
    fn check(&self, name: &str) -> Result<()> {
        let settings = [
            ("beta1", self.beta1, Range::Decay),
            ("beta2", self.beta2, Range::Decay),
            ("eps", self.eps, Range::NotNegative),
            ("weight_decay", self.weight_decay, Range::NotNegative),
        ];
        check(name, settings)
    }
}

impl Sealed for Adam {}

impl Rule for Adam {
    const NAME: &'static str = "Adam";

    fn validate(&self) -> Result<()> {
        self.check(Self::NAME)
    }

    fn state(&self) -> Vec<&'static str> {
        let mut names = vec![STEP, "exp_avg", "exp_avg_sq"];
        names.extend(self.amsgrad.then_some("max_exp_avg_sq"));
        names
    }

    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()> {
        let Lists { parameters, gradients, states, .. } = lists;
        let [steps, means, squares] = [&states[0], &states[1], &states[2]];
        let largest = lists.state(3, self.amsgrad);
        Ok(ffi::adam_step(self, lr, lend(rate), parameters, gradients, steps, means, squares, largest)?)
    }

    fields!(beta1, beta2, eps, eps_inside_root, weight_decay, decoupled_weight_decay, amsgrad);
}

/// [`Adam`] with a decoupled weight decay, and 0.01 of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// `β₁`. In [0, 1).
    pub beta1: f64,
    /// `β₂`. In [0, 1).
    pub beta2: f64,
    /// `ε`. At least 0.
    pub eps: f64,
    /// Whether `ε` is inside of the root.
    pub eps_inside_root: bool,
    /// `λ`: `w ← w - η λ w` before each step. At least 0.
    pub weight_decay: f64,
    /// Whether the largest `r` so far stands in the place of `r`: AMSGrad.
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { beta1, beta2, eps, eps_inside_root, amsgrad, .. } = Adam::default();
        Self { beta1, beta2, eps, eps_inside_root, weight_decay: 0.01, amsgrad }
    }
}

impl AdamW {
    fn as_adam(&self) -> Adam {
        let Self { beta1, beta2, eps, eps_inside_root, weight_decay, amsgrad } = *self;
        Adam { beta1, beta2, eps, eps_inside_root, weight_decay, decoupled_weight_decay: true, amsgrad }
    }
}

impl Sealed for AdamW {}

impl Rule for AdamW {
    const NAME: &'static str = "AdamW";

    fn validate(&self) -> Result<()> {
        self.as_adam().check(Self::NAME)
    }

    fn state(&self) -> Vec<&'static str> {
        self.as_adam().state()
    }

    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()> {
        self.as_adam().apply(lr, rate, lists)
    }

    fields!(beta1, beta2, eps, eps_inside_root, weight_decay, amsgrad);
}

impl Default for AdaGrad {
    fn default() -> Self {
        Self { lr_decay: 0.0, eps: 1e-10, weight_decay: 0.0, initial_accumulator_value: 0.0 }
    }
}

impl Sealed for AdaGrad {}

impl Rule for AdaGrad {
    const NAME: &'static str = "AdaGrad";

    fn validate(&self) -> Result<()> {
        let settings = [
            ("lr_decay", self.lr_decay, Range::NotNegative),
            ("eps", self.eps, Range::NotNegative),
            ("weight_decay", self.weight_decay, Range::NotNegative),
            ("initial_accumulator_value", self.initial_accumulator_value, Range::NotNegative),
        ];
        check(Self::NAME, settings)
    }

    fn state(&self) -> Vec<&'static str> {
        vec![STEP, "sum"]
    }

    fn initial(&self) -> f64 {
        self.initial_accumulator_value
    }

    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()> {
        let Lists { parameters, gradients, states, .. } = lists;
        Ok(ffi::adagrad_step(self, lr, lend(rate), parameters, gradients, &states[0], &states[1])?)
    }

    fields!(lr_decay, eps, weight_decay, initial_accumulator_value);
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, eps_inside_root: false, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Sealed for RmsProp {}

impl Rule for RmsProp {
    const NAME: &'static str = "RmsProp";

    fn validate(&self) -> Result<()> {
        let settings = [
            ("alpha", self.alpha, Range::Decay),
            ("eps", self.eps, Range::NotNegative),
            ("weight_decay", self.weight_decay, Range::NotNegative),
            ("momentum", self.momentum, Range::NotNegative),
        ];
        check(Self::NAME, settings)
    }

    fn state(&self) -> Vec<&'static str> {
        let mut names = vec!["square_avg"];
        names.extend(self.centered.then_some("grad_avg"));
        names.extend((self.momentum != 0.0).then_some("momentum_buffer"));
        names
    }

    fn apply(&self, lr: f64, rate: &Tensor, lists: &Lists) -> Result<()> {
        let Lists { parameters, gradients, states, .. } = lists;
        let means = lists.state(1, self.centered);
        let momenta = lists.state(states.len() - 1, self.momentum != 0.0);
        Ok(ffi::rmsprop_step(self, lr, lend(rate), parameters, gradients, &states[0], means, momenta)?)
    }

    fields!(alpha, eps, eps_inside_root, weight_decay, momentum, centered);
}
