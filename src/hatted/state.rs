//! The state of one layer: the memory that it has, and what a pass, a reset and a load do to it.

use super::lock;
use super::method::Method;
use crate::error::Result;
use std::marker::PhantomData;
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

/// A tensor for each name of [`Method::STATE`](super::Method::STATE); none before the first forward pass with gradients.
///
/// Once there is memory it stays the same as long as size, kind and device do: a graph between its forward and its backward
/// pass, and a captured CUDA graph, write to it.
#[derive(Debug)]
pub(super) struct State<M> {
    memory: Mutex<Option<Memory>>,
    method: PhantomData<fn() -> M>,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self { memory: Mutex::default(), method: PhantomData }
    }
}

#[derive(Debug)]
struct Memory {
    tensors: Vec<Tensor>,
    origin: Origin,
}

/// Where a state comes from, which decides what the next pass may do with it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    /// The passes: it is what they need.
    Passes,
    /// A reset: as at first, but of a size which may be that of passes which are no more.
    Reset,
    /// A file, in whose order of memory it still is.
    File,
}

/// What a load or a reset is about to do.
pub(super) enum Change {
    /// There is no state.
    Reset,
    /// Into the memory that is there: same sizes, kind and device.
    Copy(Vec<Tensor>),
    /// There is no such memory.
    Replace(Vec<Tensor>),
}

impl<M: Method> State<M> {
    /// The output of a pass whose operator `call` takes the state, and whose backward pass changes it in place. `initial`
    /// makes the first one, of this kind and on this device.
    pub(super) fn in_pass(
        &self,
        options: (Kind, Device),
        initial: impl FnOnce() -> Result<Vec<Tensor>>,
        call: impl FnOnce(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut memory = lock(&self.memory);
        if let Some(Memory { tensors, origin: Origin::Passes }) = &*memory
            && tensors.iter().all(|tensor| has(tensor, options))
        {
            let lent: Vec<_> = tensors.iter().map(Tensor::shallow_clone).collect();
            drop(memory);
            return call(&lent);
        }
        // New memory is the layer's once a pass has taken it: what fails leaves the old, or none. Another thread waits.
        let tensors = Memory::for_pass(memory.as_ref(), options, initial)?;
        let output = call(&tensors)?;
        *memory = Some(Memory { tensors, origin: Origin::Passes });
        Ok(output)
    }

    /// What `read` makes of what there is to keep.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[Tensor]) -> T) -> Option<T> {
        let memory = lock(&self.memory);
        memory.as_ref().filter(|memory| memory.has_begun::<M>()).map(|memory| read(&memory.tensors))
    }

    /// The tensors themselves, as passes know them: what no pass has taken yet may be on another device than the weight.
    pub(super) fn handles(&self) -> Option<Vec<Tensor>> {
        let memory = lock(&self.memory);
        let of_passes = memory.as_ref().filter(|memory| memory.origin == Origin::Passes);
        of_passes.map(|memory| memory.tensors.iter().map(Tensor::shallow_clone).collect())
    }

    pub(super) fn copies(&self) -> Option<Vec<Tensor>> {
        self.read(|tensors| tensors.iter().map(|tensor| tensor.detach().copy()).collect())
    }

    pub(super) fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        lock(&self.memory).as_ref().map_or(0, |memory| memory.tensors.iter().map(bytes).sum())
    }

    /// What is to be done for a state out of a file. All that can fail is done here.
    pub(super) fn prepare(&self, loaded: Option<Vec<Tensor>>) -> Result<Change> {
        let Some(loaded) = loaded else { return Ok(Change::Reset) };
        match lock(&self.memory).as_ref() {
            Some(Memory { tensors, origin })
                if *origin != Origin::File
                    && tensors.iter().zip(&loaded).all(|(here, new)| here.size() == new.size()) =>
            {
                let like =
                    |(new, here): (Tensor, &Tensor)| Ok(new.f_to_device(here.device())?.f_to_kind(here.kind())?);
                Ok(Change::Copy(loaded.into_iter().zip(tensors).map(like).collect::<Result<_>>()?))
            }
            _ => Ok(Change::Replace(loaded)),
        }
    }

    pub(super) fn change(&self, change: Change) {
        let mut memory = lock(&self.memory);
        match (change, memory.as_mut()) {
            (Change::Reset, Some(memory)) if memory.origin != Origin::File => {
                memory.origin = Origin::Reset;
                for (index, tensor) in memory.tensors.iter_mut().enumerate() {
                    tch::no_grad(|| M::forget(index, tensor));
                }
            }
            (Change::Reset, _) => *memory = None,
            (Change::Copy(values), Some(memory)) => {
                memory.origin = Origin::Passes;
                for (tensor, values) in memory.tensors.iter_mut().zip(&values) {
                    tch::no_grad(|| tensor.copy_(values));
                }
            }
            (Change::Copy(tensors) | Change::Replace(tensors), _) => {
                *memory = Some(Memory { tensors, origin: Origin::File });
            }
        }
    }
}

impl Memory {
    /// Whether there is something to keep. What a reset leaves is as good as nothing, unless a graph in flight has changed it.
    fn has_begun<M: Method>(&self) -> bool {
        let has_changed = |(index, tensor): (usize, &Tensor)| {
            let mut forgotten = tensor.copy();
            M::forget(index, &mut forgotten);
            !forgotten.equal(tensor)
        };
        self.origin != Origin::Reset || self.tensors.iter().enumerate().any(has_changed)
    }

    /// What a pass is given: the `initial` state at first. When the weight has moved to another device or kind since, the state
    /// follows.
    fn for_pass(
        memory: Option<&Memory>,
        options: (Kind, Device),
        initial: impl FnOnce() -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let tensors = match memory {
            None => initial()?,
            Some(Memory { tensors, origin: Origin::Passes }) => tensors.iter().map(Tensor::shallow_clone).collect(),
            // As new, but for the memory, if it is what a new one would have.
            Some(Memory { tensors, origin: Origin::Reset }) => {
                let keep = |(old, new): (&Tensor, Tensor)| match has_form_of(old, &new) {
                    true => old.shallow_clone(),
                    false => new,
                };
                tensors.iter().zip(initial()?).map(keep).collect()
            }
            // In the order that the passes read it in; where the size is not theirs, the operator says what is wrong.
            Some(Memory { tensors, origin: Origin::File }) => {
                let adapt = |(old, mut new): (&Tensor, Tensor)| {
                    if old.size() != new.size() {
                        return Ok(old.shallow_clone());
                    }
                    tch::no_grad(|| new.f_copy_(old))?;
                    Ok(new)
                };
                tensors.iter().zip(initial()?).map(adapt).collect::<Result<_>>()?
            }
        };
        let follow = |tensor: Tensor| match has(&tensor, options) {
            true => Ok(tensor),
            false => Ok(tensor.f_to_device(options.1)?.f_to_kind(options.0)?),
        };
        tensors.into_iter().map(follow).collect()
    }
}

fn has(tensor: &Tensor, options: (Kind, Device)) -> bool {
    (tensor.kind(), tensor.device()) == options
}

/// Whether one can be used in the place of the other.
fn has_form_of(tensor: &Tensor, other: &Tensor) -> bool {
    tensor.size() == other.size() && tensor.kind() == other.kind() && tensor.device() == other.device()
}
