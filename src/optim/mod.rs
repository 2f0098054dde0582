//! Optimizers whose state can be saved: libtorch's kernels for many parameters at once, with the habits of [`tch::nn`].
//!
//! [`Sgd`], [`Adam`], [`AdamW`], [`AdaGrad`] and [`RmsProp`] are settings, whose [`build`](Rule::build) makes an [`Optim`]. Their
//! names and defaults are those of `torch.optim`. Virtual, preconditioned and normalized gradients are as good to them as plain
//! ones.
//!
//! ```
//! use tch::nn::{self, Module};
//! use tch::{Device, Kind, Tensor};
//! use tch_svgd::optim::{Adam, Cosine, Rule, Schedule};
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let fc = nn::linear(vs.root() / "fc", 4, 3, Default::default());
//! let mut optimizer = Adam::default().build(&vs, 1e-3)?;
//! let schedule = Cosine { steps: 100, end: 0.0 };
//! for step in 0..10 {
//!     let loss = fc.forward(&Tensor::randn([8, 4], (Kind::Float, Device::Cpu))).square().mean(None);
//!     optimizer.set_lr(1e-3 * schedule.factor(step));
//!     optimizer.backward_step(&loss);
//! }
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("adam.safetensors");
//! optimizer.save(&path)?;
//! # optimizer.load(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod grad_scaler;
mod rules;
mod schedule;

pub use crate::bridge::ffi::{AdaGrad, Adam, RmsProp, Sgd};
pub use grad_scaler::{GradScaler, GradScalerConfig, LossScaled};
pub use rules::{AdamW, Rule};
pub use schedule::{Cosine, MultiStep, OneCycle, Plateau, Schedule, StepDecay, WarmUp};

use crate::bridge::ffi;
use crate::convert::{lend, lend_all};
use crate::error::{Error, Result};
use crate::state_file::{self, Format, StateFile};
use entry::{Entry, Group};
use rules::Lists;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tch::nn::{self, Variables};
use tch::{Device, Kind, Tensor};

/// What applies gradients: an [`Optim`], or one of tch's.
pub trait Optimizer {
    /// Forgets the gradients.
    ///
    /// # Errors
    /// Of libtorch.
    fn f_zero_grad(&mut self) -> Result<()>;

    /// Applies the gradients that there are.
    ///
    /// # Errors
    /// Of memory, or of libtorch.
    fn f_step(&mut self) -> Result<()>;

    /// What it applies them to, as of now.
    ///
    /// # Errors
    /// Of libtorch.
    fn parameters(&mut self) -> Result<Vec<Tensor>>;
}

/// tch's own, which panics in the place of an error.
impl Optimizer for nn::Optimizer {
    fn f_zero_grad(&mut self) -> Result<()> {
        self.zero_grad();
        Ok(())
    }

    fn f_step(&mut self) -> Result<()> {
        self.step();
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<Tensor>> {
        Ok(self.trainable_variables())
    }
}

/// An optimizer of a `VarStore`'s variables, of the settings `R`: [`Sgd::build`](Rule::build) and others make it.
///
/// As tch's, it knows parameter groups ([`Path::set_group`](nn::Path::set_group)), each with a rate and settings of its own, and
/// takes variables that are made later along. What has no gradient in a step stays as it is, and so does its state.
///
/// A step is a call of libtorch's fused kernel for each group; of its foreach operations for an `ε` inside of the root and for
/// [`RmsProp`], which it has no such kernel for. (On the CPU a plain [`RmsProp`] is a step of Adam's, with a `β₁` of 0.) Weights
/// of half precision are stepped in Float. On a GPU the rate is a tensor, so a [`CudaGraph`](crate::CudaGraph) replays a step at
/// the rate that [`set_lr`](Self::set_lr) has last told.
#[derive(Debug)]
pub struct Optim<R: Rule> {
    variables: Arc<Mutex<Variables>>,
    /// How many of these there were at the last look.
    seen: usize,
    entries: Vec<Entry>,
    groups: BTreeMap<usize, Group<R>>,
}

const FORMAT: &str = "tch-svgd optimizer 1";
/// Of a variable in a file, beside its state: the number of its group.
const GROUP: &str = "group";

impl<R: Rule> Optim<R> {
    fn new(rule: R, vs: &nn::VarStore, lr: f64) -> Result<Self> {
        rule.validate()?;
        let groups = BTreeMap::from([(0, Group::new(rule, lr)?)]);
        let mut optimizer = Self { variables: vs.variables_.clone(), seen: 0, entries: Vec::new(), groups };
        optimizer.follow()?;
        Ok(optimizer)
    }

    /// Takes the variables along that have been made since. A group that is new has the settings of group 0.
    fn follow(&mut self) -> Result<()> {
        let variables = self.variables.clone();
        let variables = variables.lock().unwrap_or_else(PoisonError::into_inner);
        // There are fewer where `VarStore::merge` has taken them to another.
        if variables.trainable_variables.len() <= self.seen {
            return Ok(());
        }
        for Parameter { identity, name, variable, group } in named(&variables)? {
            if self.entries.iter().any(|entry| entry.identity == identity) {
                continue;
            }
            self.entries.push(Entry::new(identity, name, variable, group));
            if !self.groups.contains_key(&group) {
                let of_first = self.groups[&0].copy()?;
                self.groups.insert(group, of_first);
            }
        }
        self.seen = variables.trainable_variables.len();
        Ok(())
    }

    fn group(&mut self, number: usize) -> Result<&mut Group<R>> {
        self.follow()?;
        let numbers: Vec<_> = self.groups.keys().copied().collect();
        self.groups.get_mut(&number).ok_or_else(|| {
            Error::Config(format!(
                "{}: argument 'group': expected one of {numbers:?}, got {number}; Path::set_group gives variables a group",
                R::NAME
            ))
        })
    }

    /// The learning rate of group 0, which is that of all unless groups have been told their own.
    pub fn lr(&self) -> f64 {
        self.groups[&0].lr
    }

    /// Sets the learning rate of all groups. Outside of a capture: within, every replay would set it.
    ///
    /// # Panics
    /// Where [`f_set_lr`](Self::f_set_lr) returns an error.
    pub fn set_lr(&mut self, lr: f64) {
        self.f_set_lr(lr).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`set_lr`](Self::set_lr).
    ///
    /// # Errors
    /// [`Error::Config`] if it is not a finite number, at least 0.
    pub fn f_set_lr(&mut self, lr: f64) -> Result<()> {
        self.groups.values_mut().try_for_each(|group| group.set_lr(lr))
    }

    /// Sets the learning rate of a group.
    ///
    /// # Panics
    /// Where [`f_set_lr_group`](Self::f_set_lr_group) returns an error.
    pub fn set_lr_group(&mut self, group: usize, lr: f64) {
        self.f_set_lr_group(group, lr).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`set_lr_group`](Self::set_lr_group).
    ///
    /// # Errors
    /// [`Error::Config`] if it is not a finite number, at least 0, or there is no such group.
    pub fn f_set_lr_group(&mut self, group: usize, lr: f64) -> Result<()> {
        self.group(group)?.set_lr(lr)
    }

    /// The settings of a group, and its learning rate.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such group.
    pub fn settings(&mut self, group: usize) -> Result<(R, f64)> {
        let group = self.group(group)?;
        Ok((group.rule, group.lr))
    }

    /// Changes the settings of a group, from the next step on.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use tch_svgd::optim::{Rule, Sgd};
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let _body = nn::linear(vs.root() / "body", 4, 8, Default::default());
    /// let _head = nn::linear((vs.root() / "head").set_group(1), 8, 3, Default::default());
    /// let mut optimizer = Sgd { momentum: 0.9, weight_decay: 1e-4, ..Default::default() }.build(&vs, 0.1)?;
    /// optimizer.set_settings(1, Sgd { momentum: 0.9, ..Default::default() })?; // no decay of the head
    /// optimizer.set_lr_group(1, 0.01);
    /// # Ok::<(), tch_svgd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range, or there is no such group.
    pub fn set_settings(&mut self, group: usize, settings: R) -> Result<()> {
        settings.validate()?;
        self.group(group)?.rule = settings;
        Ok(())
    }

    /// Forgets the gradients: there are none then, as after PyTorch's `zero_grad`.
    ///
    /// # Panics
    /// Where [`f_zero_grad`](Self::f_zero_grad) returns an error.
    pub fn zero_grad(&mut self) {
        self.f_zero_grad().unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`zero_grad`](Self::zero_grad).
    ///
    /// # Errors
    /// Of libtorch.
    pub fn f_zero_grad(&mut self) -> Result<()> {
        self.follow()?;
        Ok(ffi::forget_gradients(&*lend_all(self.entries.iter().map(|entry| &entry.variable))?)?)
    }

    /// Applies the gradients that there are.
    ///
    /// # Panics
    /// Where [`f_step`](Self::f_step) returns an error.
    pub fn step(&mut self) {
        self.f_step().unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`step`](Self::step).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a sparse gradient, [`Error::OutOfMemory`] where there is none for the state: nothing has
    /// changed then. [`Error::OutOfMemory`] of the step itself, and [`Error::Torch`]: a part of the weights, and of their state,
    /// may have changed.
    pub fn f_step(&mut self) -> Result<()> {
        self.follow()?;
        let mut batches: Vec<Batch> = Vec::new();
        for (number, entry) in self.entries.iter_mut().enumerate() {
            let gradient = entry.variable.f_grad()?;
            if !gradient.defined() || gradient.numel() == 0 {
                continue;
            }
            if gradient.is_sparse() {
                return Err(Error::Unsupported(format!(
                    "{}: gradient of '{}': expected a dense tensor, got a sparse one; use an embedding whose gradients are dense",
                    R::NAME,
                    entry.name
                )));
            }
            let new_state = entry.new_state(&self.groups[&entry.group].rule)?;
            let (device, kind) = (gradient.device(), gradient.kind());
            let key = BatchKey { group: entry.group, device, kind, first: !new_state.is_empty() };
            let member = Member { number, gradient, new_state };
            match batches.iter_mut().find(|batch| batch.key == key) {
                Some(batch) => batch.members.push(member),
                None => batches.push(Batch { key, members: vec![member] }),
            }
        }
        for Batch { key, members } in batches {
            let group = self.groups.get_mut(&key.group).expect("an entry's group is there");
            let entries = || members.iter().map(|member| &self.entries[member.number]);
            let of_name = |name: &&'static str| {
                let of_member = |member: &'_ Member| {
                    let old = self.entries[member.number].state.get(name);
                    old.or_else(|| member.new_state.get(name)).expect("made above").shallow_clone()
                };
                lend_all(&members.iter().map(of_member).collect::<Vec<_>>())
            };
            let lists = Lists {
                parameters: lend_all(entries().map(|entry| &entry.variable))?,
                gradients: lend_all(members.iter().map(|member| &member.gradient))?,
                states: group.rule.state().iter().map(of_name).collect::<Result<_>>()?,
                none: ffi::tensor_list()?,
                first: key.first,
            };
            let rate = group.rate(key.device)?;
            group.rule.apply(group.lr, &rate, &lists)?;
            // A step that fails is a variable's first no less when it is tried again.
            for Member { number, new_state, .. } in members {
                self.entries[number].state.extend(new_state);
            }
        }
        Ok(())
    }

    /// The gradients of `loss` alone, and a step along them.
    ///
    /// # Panics
    /// Where [`f_backward_step`](Self::f_backward_step) returns an error.
    pub fn backward_step(&mut self, loss: &Tensor) {
        self.f_backward_step(loss).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`backward_step`](Self::backward_step).
    ///
    /// # Errors
    /// Those of [`backward`](crate::backward) and of [`f_step`](Self::f_step).
    pub fn f_backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.f_zero_grad()?;
        crate::backward(loss)?;
        self.f_step()
    }

    /// The memory of the state, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// A variable's state of this name: `momentum_buffer`, `exp_avg`, and so on, as `torch.optim` has them. A copy; none before
    /// its first step.
    pub fn state(&self, variable: &str, name: &str) -> Option<Tensor> {
        let entry = self.entries.iter().find(|entry| entry.name == variable)?;
        entry.state.get(name).map(|tensor| tensor.detach().copy())
    }

    /// Writes the state, the settings and the rates of all groups as safetensors, under the variables' names. The file is
    /// replaced as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.follow()?;
        let mut tensors = BTreeMap::new();
        for entry in &self.entries {
            // Those without state too: the file knows all variables.
            tensors.insert(entry.key(GROUP), Some(Tensor::from(entry.group as f64)));
            for name in self.groups[&entry.group].rule.state() {
                tensors.insert(entry.key(name), entry.state.get(name).map(Tensor::shallow_clone));
            }
        }
        let groups = self.groups.iter().map(|(number, group)| format!("group {number}: {}", group.to_text()));
        let details: Vec<_> = std::iter::once(R::NAME.to_owned()).chain(groups).collect();
        state_file::write(path.as_ref(), FORMAT, &details.join("; "), tensors)
    }

    /// Reads what [`save`](Self::save) has written of the same model's optimizer: training goes on as if it had not stopped. The
    /// settings and rates are those of the file, as PyTorch's `load_state_dict` has them. A captured
    /// [`CudaGraph`](crate::CudaGraph) goes on with the state and the rate, where the file has state for all that it steps; it keeps
    /// its own other settings.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::State`] if it is damaged, or of another optimizer or model. Nothing has
    /// changed then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.follow()?;
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let format = Format { name: FORMAT, contents: "the state that Optim::save writes".to_owned() };
        let file = StateFile::parse(path, &bytes, &format)?;
        let groups = self.read_groups(&file)?;
        let keys = |entry: &Entry| -> Vec<(&'static str, String)> {
            groups[&entry.group].0.state().into_iter().map(|name| (name, entry.key(name))).collect()
        };
        let of_groups = self.entries.iter().map(|entry| entry.key(GROUP));
        let known: Vec<_> = self.entries.iter().flat_map(keys).map(|(_, key)| key).chain(of_groups).collect();
        let stored = file.names();
        let missing: Vec<_> = known.iter().filter(|key| !stored.contains(key.as_str())).collect();
        let unknown: Vec<_> = stored.iter().filter(|stored| !known.iter().any(|key| key == *stored)).collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(file.error(format!(
                "expected the variables of this model, got others: the file lacks {missing:?} and has {unknown:?} too; build \
                 the model that it was saved from first"
            )));
        }
        let mut states = Vec::new();
        for entry in &self.entries {
            let group = file.tensor(&entry.key(GROUP), &[Kind::Double])?;
            let group = group.filter(|group| group.size().is_empty()).map(|group| group.double_value(&[]));
            if group != Some(entry.group as f64) {
                return Err(file.error(format!(
                    "variable '{}': expected group {}, got {}; build the model that it was saved from first",
                    entry.name,
                    entry.group,
                    group.unwrap_or(f64::NAN)
                )));
            }
            let mut state = BTreeMap::new();
            for (name, key) in keys(entry) {
                let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
                let Some(tensor) = file.tensor(&key, &kinds)? else { continue };
                let (size, expected) = (tensor.size(), entry.size_of(name));
                if size != expected {
                    return Err(file.error(format!(
                        "tensor '{key}': expected shape {expected:?}, got {size:?}; the model is another one"
                    )));
                }
                state.insert(name, entry.adapt(name, &tensor)?);
            }
            if !state.is_empty() && state.len() < keys(entry).len() {
                return Err(file.error(format!(
                    "variable '{}': expected all of its state, got a part; the file is damaged",
                    entry.name
                )));
            }
            states.push(state);
        }
        // Nothing can fail from here on, but a device.
        for (entry, state) in self.entries.iter_mut().zip(states) {
            entry.replace(state);
        }
        for (number, (rule, lr)) in groups {
            let group = self.group(number)?;
            group.rule = rule;
            group.set_lr(lr)?;
        }
        Ok(())
    }

    /// The settings and rates of a file, which must be of these groups.
    fn read_groups(&self, file: &StateFile<'_>) -> Result<BTreeMap<usize, (R, f64)>> {
        let mut parts = file.details.split("; ");
        let name = parts.next().unwrap_or_default();
        if name != R::NAME {
            return Err(file.error(format!(
                "expected the state of {}, got that of {name}; build the optimizer that it is of",
                R::NAME
            )));
        }
        let parse = |part: &str| {
            let (number, text) = part.strip_prefix("group ")?.split_once(": ")?;
            let group = Group::<R>::parse(text)?;
            group.0.validate().ok()?;
            Some((number.parse().ok()?, group))
        };
        let groups: Option<Vec<(usize, (R, f64))>> = parts.map(parse).collect();
        // Each once.
        let groups = groups.and_then(|list| {
            let count = list.len();
            Some(BTreeMap::from_iter(list)).filter(|groups| groups.len() == count)
        });
        let groups = groups.ok_or_else(|| {
            file.error(format!(
                "expected settings as Optim::save writes them, got '{}'; the file is damaged",
                file.details
            ))
        })?;
        let (found, known): (Vec<_>, Vec<_>) = (groups.keys().collect(), self.groups.keys().collect());
        if found != known {
            return Err(file.error(format!(
                "expected the parameter groups {known:?}, got {found:?}; build the model that it was saved from first"
            )));
        }
        Ok(groups)
    }
}

/// Parameters that one call steps.
struct Batch {
    key: BatchKey,
    members: Vec<Member>,
}

struct Member {
    /// That of its entry.
    number: usize,
    gradient: Tensor,
    /// What its entry has not got yet.
    new_state: BTreeMap<&'static str, Tensor>,
}

#[derive(PartialEq)]
struct BatchKey {
    group: usize,
    device: Device,
    kind: Kind,
    first: bool,
}

impl<R: Rule> Optimizer for Optim<R> {
    fn f_zero_grad(&mut self) -> Result<()> {
        Optim::f_zero_grad(self)
    }

    fn f_step(&mut self) -> Result<()> {
        Optim::f_step(self)
    }

    fn parameters(&mut self) -> Result<Vec<Tensor>> {
        self.follow()?;
        Ok(self.entries.iter().map(|entry| entry.variable.shallow_clone()).collect())
    }
}

/// A variable that is made to be trained.
struct Parameter {
    identity: usize,
    name: String,
    variable: Tensor,
    group: usize,
}

/// All of them, frozen ones too, in the order of their making. One that has several names has the first in the alphabet.
fn named(variables: &Variables) -> Result<Vec<Parameter>> {
    let mut names: HashMap<usize, &String> = HashMap::new();
    for (name, variable) in &variables.named_variables {
        let least = names.entry(ffi::identity(lend(variable))?).or_insert(name);
        *least = (*least).min(name);
    }
    let mut parameters = Vec::new();
    for variable in &variables.trainable_variables {
        let identity = ffi::identity(lend(&variable.tensor))?;
        // Removed: the second of several names finds none, nor does what somebody has put there by hand.
        if let Some(name) = names.remove(&identity) {
            let (name, group) = (name.clone(), variable.group);
            parameters.push(Parameter { identity, name, variable: variable.tensor.shallow_clone(), group });
        }
    }
    Ok(parameters)
}

/// Those of a `VarStore`, with their names.
pub(crate) fn named_parameters(vs: &nn::VarStore) -> Result<Vec<(String, Tensor)>> {
    let variables = vs.variables_.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(named(&variables)?.into_iter().map(|parameter| (parameter.name, parameter.variable)).collect())
}
