//! The optimizers that are compared, a row of one table each: what makes the gradients, what becomes of them, and by which
//! rule they are applied.

use super::experiment::{PaperErrors, Rates};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What makes the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    /// tch's own layers.
    Plain,
    /// SVGD's virtual gradients.
    Svgd {
        /// One second moment for each output channel of a convolution, instead of one for each element.
        by_channel: bool,
        /// Second moments of single examples' gradients, instead of those of the batch's.
        per_example: bool,
    },
    /// TSO-ALRA's, grafted and relatively damped.
    TsoAlra {
        /// Whether they give way to plain ones once the validation loss stalls.
        switches: bool,
    },
}

/// What becomes of the gradients of a block before the rule (BNG).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalization {
    None,
    /// NG: of length 1.
    Unit,
    /// NG_adap: of this times the length of the block's weights.
    Adaptive(f64),
    /// Of this length at most.
    Clip(f64),
}

/// By which rule gradients are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Sgd,
    /// SGD with momentum 0.9.
    Momentum,
    /// SGD with Nesterov's momentum 0.9.
    Nesterov,
    Rmsprop,
    Adam,
    Amsgrad,
    Adamw,
    Adagrad,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    pub kind: OptimizerKind,
    /// The name on the command line and in reports.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    pub gradients: Gradients,
    pub normalization: Normalization,
    pub rule: Rule,
    /// Its rates among those of an experiment, and what they are multiplied by.
    pub rates: (fn(&Rates) -> [f64; 3], f64),
    /// Its error in the SVGD paper's tables, which have some of them.
    pub paper_error: Option<fn(&PaperErrors) -> f64>,
    /// How the files of the authors' curves end for it.
    pub log: Option<&'static str>,
    /// Its colour in figures: red, green and blue.
    pub color: [u8; 3],
}

macro_rules! optimizers {
    ($($kind:ident, $name:literal, $about:literal,
       $gradients:expr, $normalization:expr, $rule:ident, $rates:expr, $error:expr, $log:expr, $color:expr;)*) => {
        /// An optimizer of the [table](TABLE).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum OptimizerKind {
            $(#[doc = $about] #[serde(rename = $name)] $kind,)*
        }

        /// All of them, in the order of reports.
        pub static TABLE: &[Row] = &[$(Row {
            kind: OptimizerKind::$kind,
            name: $name,
            about: $about,
            gradients: $gradients,
            normalization: $normalization,
            rule: Rule::$rule,
            rates: $rates,
            paper_error: $error,
            log: $log,
            color: $color,
        },)*];
    };
}

const PLAIN: Gradients = Gradients::Plain;
const AS_THEY_ARE: Normalization = Normalization::None;
const NG: Normalization = Normalization::Unit;
const NG_ADAP: Normalization = Normalization::Adaptive(0.02);
const CLIP: Normalization = Normalization::Clip(0.1);

const fn svgd(by_channel: bool, per_example: bool) -> Gradients {
    Gradients::Svgd { by_channel, per_example }
}

const fn tso_alra(switches: bool) -> Gradients {
    Gradients::TsoAlra { switches }
}

// The colours are Okabe and Ito's, which the colour-blind can tell apart, without their yellow, which nobody sees on white;
// for TSO-ALRA Paul Tol's; and for normalized gradients the rule's own, darker or lighter.
optimizers! {
    Sgd, "sgd", "Stochastic gradient descent",
        PLAIN, AS_THEY_ARE, Sgd, (|r| r.sgd, 1.0), Some(|e| e.sgd), Some("sgd"), [0, 114, 178];
    Momentum, "momentum", "SGD with momentum 0.9",
        PLAIN, AS_THEY_ARE, Momentum, (|r| r.momentum, 1.0), None, Some("momentum"), [86, 180, 233];
    Nesterov, "nesterov", "SGD with Nesterov's momentum 0.9",
        PLAIN, AS_THEY_ARE, Nesterov, (|r| r.momentum, 1.0), None, None, [0, 190, 210];
    Rmsprop, "rmsprop", "RMSProp with decay 0.9",
        PLAIN, AS_THEY_ARE, Rmsprop, (|r| r.rmsprop, 1.0), Some(|e| e.rmsprop), Some("rmsprop"), [204, 121, 167];
    Adam, "adam", "Adam",
        PLAIN, AS_THEY_ARE, Adam, (|r| r.adam, 1.0), Some(|e| e.adam), Some("adam"), [0, 158, 115];
    Svgd, "svgd", "SGD on virtual gradients: the paper's SVGD",
        svgd(false, false), AS_THEY_ARE, Sgd, (|r| r.svgd, 1.0), Some(|e| e.svgd), Some("so"), [213, 94, 0];
    SvgdChannel, "svgd-channel", "SVGD with one second moment for each output channel of a convolution",
        svgd(true, false), AS_THEY_ARE, Sgd, (|r| r.svgd, 1.0), None, None, [230, 159, 0];
    SvgdPerExample, "svgd-per-example", "SVGD with the second moments of single examples' gradients",
        svgd(false, true), AS_THEY_ARE, Sgd, (|r| r.svgd_per_example, 1.0), None, None, [120, 120, 120];
    // A tenth of the rate, whose steps momentum makes ten times longer.
    SvgdMomentum, "svgd-momentum", "SGD with momentum 0.9 on virtual gradients",
        svgd(false, false), AS_THEY_ARE, Momentum, (|r| r.svgd, 0.1), None, None, [0, 0, 0];
    Amsgrad, "amsgrad", "Adam with the largest second moment so far",
        PLAIN, AS_THEY_ARE, Amsgrad, (|r| r.adam, 1.0), None, None, [51, 34, 136];
    // Grafted steps are as long as SGD's.
    TsoAlra, "tso-alra", "SGD on Kronecker-factored gradients, grafted and relatively damped",
        tso_alra(false), AS_THEY_ARE, Sgd, (|r| r.sgd, 1.0), None, None, [200, 30, 60];
    TsoAlraSwitch, "tso-alra-switch", "The same, and plain SGD once the validation loss stalls",
        tso_alra(true), AS_THEY_ARE, Sgd, (|r| r.sgd, 1.0), None, None, [136, 34, 85];
    Adamw, "adamw", "Adam with a decoupled weight decay of 0.01",
        PLAIN, AS_THEY_ARE, Adamw, (|r| r.adam, 1.0), None, None, [68, 170, 153];
    Adagrad, "adagrad", "AdaGrad",
        PLAIN, AS_THEY_ARE, Adagrad, (|r| r.adagrad, 1.0), None, None, [230, 159, 0];
    MomentumNg, "momentum-ng", "Momentum 0.9 on block-normalized gradients",
        PLAIN, NG, Momentum, (|r| r.momentum, 1.0), None, None, [0, 60, 130];
    MomentumNgAdap, "momentum-ng-adap", "The same, of 0.02 times the length of the block's weights",
        PLAIN, NG_ADAP, Momentum, (|r| r.momentum, 1.0), None, None, [110, 110, 220];
    MomentumClip, "momentum-clip", "Momentum 0.9 on gradients whose blocks are clipped at 0.1",
        PLAIN, CLIP, Momentum, (|r| r.momentum, 1.0), None, None, [160, 200, 230];
    AdamNg, "adam-ng", "Adam on block-normalized gradients",
        PLAIN, NG, Adam, (|r| r.adam, 1.0), None, None, [0, 80, 40];
    AdamNgAdap, "adam-ng-adap", "The same, of 0.02 times the length of the block's weights",
        PLAIN, NG_ADAP, Adam, (|r| r.adam, 1.0), None, None, [120, 190, 60];
    AdamClip, "adam-clip", "Adam on gradients whose blocks are clipped at 0.1",
        PLAIN, CLIP, Adam, (|r| r.adam, 1.0), None, None, [150, 210, 180];
    AdagradNg, "adagrad-ng", "AdaGrad on block-normalized gradients",
        PLAIN, NG, Adagrad, (|r| r.adagrad, 1.0), None, None, [150, 90, 0];
}

impl OptimizerKind {
    /// Its row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// By which rule it applies gradients.
    pub fn rule(self) -> Rule {
        self.row().rule
    }

    /// Whether it applies virtual gradients.
    pub fn is_virtual(self) -> bool {
        matches!(self.row().gradients, Gradients::Svgd { .. })
    }

    /// Whether it is TSO-ALRA, with a switch or without.
    pub fn is_tso_alra(self) -> bool {
        matches!(self.row().gradients, Gradients::TsoAlra { .. })
    }

    /// Whether validation samples tell it when to switch.
    pub fn switches(self) -> bool {
        self.row().gradients == Gradients::TsoAlra { switches: true }
    }
}

/// From a command line.
impl FromStr for OptimizerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::named(&text.trim().to_lowercase()).ok_or_else(|| {
            let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_place_of_its_row_and_is_written_by_its_name() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, place);
            assert_eq!(OptimizerKind::named(row.name), Some(row.kind));
            assert_eq!(serde_json::to_value(row.kind).unwrap(), row.name);
            assert_eq!(serde_json::from_value::<OptimizerKind>(row.name.into()).unwrap(), row.kind);
        }
        assert_eq!(OptimizerKind::named("Adam"), None);
        assert_eq!(" Adam".parse(), Ok(OptimizerKind::Adam));
        assert!("lion".parse::<OptimizerKind>().unwrap_err().starts_with("expected one of sgd, momentum, "));
    }
}
