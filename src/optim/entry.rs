//! What an optimizer keeps: of each variable its state, of each group its settings and rate.

use super::rules::{Rule, STEP};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// A variable with its state.
#[derive(Debug)]
pub(super) struct Entry {
    /// Of the variable, which tells it from others.
    pub identity: usize,
    pub name: String,
    pub variable: Tensor,
    pub group: usize,
    /// By the rule's names; empty before the first step.
    pub state: BTreeMap<&'static str, Tensor>,
}

impl Entry {
    pub fn new(identity: usize, name: String, variable: Tensor, group: usize) -> Self {
        Self { identity, name, variable, group, state: BTreeMap::new() }
    }

    /// The name of a state tensor in a file.
    pub fn key(&self, state: &str) -> String {
        format!("{}.{state}", self.name)
    }

    pub fn size_of(&self, state: &str) -> Vec<i64> {
        if state == STEP { vec![] } else { self.variable.size() }
    }

    fn kind_of(&self, state: &str) -> Kind {
        if state == STEP { Kind::Float } else { self.variable.kind() }
    }

    /// The state that the rule needs and that is not there, as it is before the first step. What is there follows the variable
    /// to another device or kind.
    pub fn new_state(&mut self, rule: &impl Rule) -> Result<BTreeMap<&'static str, Tensor>> {
        let mut new = BTreeMap::new();
        for name in rule.state() {
            match self.state.get(name) {
                None if name == STEP => {
                    new.insert(name, Tensor::f_zeros([], (Kind::Float, self.variable.device()))?);
                }
                None => {
                    // In the order of the variable's own memory.
                    let like = self.variable.detach();
                    new.insert(name, like.f_full_like(rule.initial())?);
                }
                Some(there) if (there.kind(), there.device()) != (self.kind_of(name), self.variable.device()) => {
                    let moved = self.adapt(name, there)?;
                    self.state.insert(name, moved);
                }
                Some(_) => {}
            }
        }
        Ok(new)
    }

    /// The values of a state in the kind, on the device and in the order of memory that steps have them.
    pub fn adapt(&self, name: &'static str, values: &Tensor) -> Result<Tensor> {
        let values = values.f_to_device(self.variable.device())?.f_to_kind(self.kind_of(name))?;
        if name == STEP {
            return Ok(values.copy());
        }
        let mut adapted = self.variable.f_zeros_like()?.detach();
        adapted.f_copy_(&values)?;
        Ok(adapted)
    }

    /// In the memory that is there, which a captured graph writes to.
    pub fn replace(&mut self, state: BTreeMap<&'static str, Tensor>) {
        let old = std::mem::take(&mut self.state);
        for (name, values) in state {
            let same = |old: &&Tensor| {
                (old.kind(), old.device(), old.size()) == (values.kind(), values.device(), values.size())
            };
            let tensor = match old.get(name).filter(same) {
                Some(old) => {
                    let mut old = old.shallow_clone();
                    old.copy_(&values);
                    old
                }
                None => values,
            };
            self.state.insert(name, tensor);
        }
    }

    pub fn bytes(&self) -> usize {
        self.state.values().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }
}

/// A parameter group.
#[derive(Debug)]
pub(super) struct Group<R> {
    pub rule: R,
    pub lr: f64,
    /// The rate where graphs may replay a step, on each such device.
    on_devices: Vec<Tensor>,
}

impl<R: Rule> Group<R> {
    pub fn new(rule: R, lr: f64) -> Result<Self> {
        let mut group = Self { rule, lr: 0.0, on_devices: Vec::new() };
        group.set_lr(lr)?;
        Ok(group)
    }

    /// Another of the same settings.
    pub fn copy(&self) -> Result<Self> {
        Self::new(self.rule, self.lr)
    }

    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        if !is_rate(lr) {
            return Err(Error::Config(format!(
                "{}: setting 'lr': expected a finite number >= 0, got {lr}; correct the setting",
                R::NAME
            )));
        }
        // The same again is nothing to do: in the capture of a graph it would be done at every replay.
        if lr != self.lr {
            for rate in &mut self.on_devices {
                let _ = rate.f_fill_(lr)?;
            }
            self.lr = lr;
        }
        Ok(())
    }

    /// The rate as a tensor on a device, an undefined one on the CPU.
    pub fn rate(&mut self, device: Device) -> Result<Tensor> {
        if device == Device::Cpu {
            return Ok(Tensor::new());
        }
        if let Some(rate) = self.on_devices.iter().find(|rate| rate.device() == device) {
            return Ok(rate.shallow_clone());
        }
        let rate = Tensor::f_full([] as [i64; 0], self.lr, (Kind::Float, device))?;
        self.on_devices.push(rate.shallow_clone());
        Ok(rate)
    }

    /// For a state file.
    pub fn to_text(&self) -> String {
        let fields = self.rule.fields().into_iter().map(|(name, value)| format!("{name} {value}"));
        std::iter::once(format!("lr {}", self.lr)).chain(fields).collect::<Vec<_>>().join(", ")
    }

    /// Reads what [`to_text`](Self::to_text) has written: all fields, once each.
    pub fn parse(text: &str) -> Option<(R, f64)> {
        let mut fields = text.split(", ").map(|field| field.split_once(' '));
        let (lr, value) = fields.next()??;
        let lr = (lr == "lr").then_some(value)?.parse().ok().filter(|&lr| is_rate(lr))?;
        let mut rule = R::default();
        for (expected, _) in R::default().fields() {
            let (name, value) = fields.next()??;
            (name == expected).then_some(())?;
            rule.set_field(name, value.parse().ok()?);
        }
        fields.next().is_none().then_some((rule, lr))
    }
}

/// Of a step: on devices it is a Float.
fn is_rate(lr: f64) -> bool {
    (lr as f32).is_finite() && lr >= 0.0
}
