//! TensorBoard's event files: TFRecords of `tensorflow.Event` messages, of which these are the fields that are used.

use super::{Event, Writer, named};
use crate::trainer::observer::{Begun, Tested};
use anyhow::Result;
use prost::Message;
use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct EventProto {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

const VERSION: &str = "brain.Event:2";
/// `SessionLog.SessionStatus.START`, at which TensorBoard forgets what it has read of the steps that come again.
const START: i32 = 1;

pub struct EventFile(File);

impl Writer for EventFile {
    /// One more each time that a run goes on: TensorBoard reads them in the order of their names.
    fn open(run: &Begun) -> Result<Self> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = run.folder.join(format!("events.out.tfevents.{seconds:010}.training.{}", std::process::id()));
        let mut file = Self(named(File::options().append(true).create(true).open(&path), &path)?);
        file.append(SystemTime::now(), 0, What::FileVersion(VERSION.to_owned()))?;
        Ok(file)
    }

    fn write(&mut self, event: &Event, at: SystemTime) -> Result<()> {
        match event {
            Event::Begin(run) => self.append(at, run.done + 1, What::SessionLog(SessionLog { status: START })),
            Event::Test(test) => self.append(at, test.evaluation.step, What::Summary(Summary { value: scalars(test) })),
            Event::Checkpoint { .. } | Event::Message(_) | Event::End { .. } => Ok(()),
        }
    }
}

impl EventFile {
    fn append(&mut self, at: SystemTime, step: usize, what: What) -> Result<()> {
        let wall_time = at.duration_since(UNIX_EPOCH)?.as_secs_f64();
        let event = EventProto { wall_time, step: step as i64, what: Some(what) };
        Ok(self.0.write_all(&record(&event.encode_to_vec()))?)
    }
}

fn scalars(test: &Tested) -> Vec<Scalar> {
    let Tested { evaluation, rate, is_best: _, stepped } = test;
    let values = [
        ("loss/train", Some(evaluation.train_loss)),
        ("loss/test", Some(evaluation.test_loss)),
        ("loss/validation", evaluation.validation_loss),
        ("error/test", Some(evaluation.test_error)),
        ("error/validation", evaluation.validation_error),
        ("rate", Some(*rate)),
        ("milliseconds per step", Some(1e3 * stepped.per_step.as_secs_f64())),
    ];
    let scalar = |(tag, value): (&str, Option<f64>)| {
        value.map(|value| Scalar { tag: tag.to_owned(), simple_value: value as f32 })
    };
    values.into_iter().filter_map(scalar).collect()
}

/// A TFRecord: the length, its checksum, the bytes, their checksum.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length, &masked_checksum(&length)[..], bytes, &masked_checksum(bytes)].concat()
}

fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that tensorboard 2.21.0's RecordWriter writes of the same messages.
    #[test]
    fn records_are_those_of_tensorboard() {
        let summary = Summary { value: vec![Scalar { tag: "loss/test".to_owned(), simple_value: 2.5 }] };
        for (step, what, expected) in [
            (
                7,
                What::Summary(summary),
                "1f00000000000000514b441809000000000000f83f10072a120a100a096c6f73732f746573741500002040276f718c",
            ),
            (
                0,
                What::FileVersion(VERSION.to_owned()),
                "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
            ),
            (
                8,
                What::SessionLog(SessionLog { status: START }),
                "0f000000000000006d532b0909000000000000f83f10083a0208019571c7d1",
            ),
        ] {
            let event = EventProto { wall_time: 1.5, step, what: Some(what) };
            let written: String = record(&event.encode_to_vec()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(written, expected);
        }
    }
}
