//! log.jsonl: an object in each line.

use super::{Event, Writer, named};
use crate::trainer::observer::{Begun, Tested};
use anyhow::Result;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The file in the folder of a run. A run that goes on adds to it: what comes again is told again, after another `begin`.
const FILE: &str = "log.jsonl";

pub struct JsonLines(File);

impl Writer for JsonLines {
    fn open(run: &Begun) -> Result<Self> {
        let path = run.folder.join(FILE);
        let mut file = named(File::options().read(true).append(true).create(true).open(&path), &path)?;
        if !named(ends_with_a_line(&mut file), &path)? {
            named(file.write_all(b"\n"), &path)?;
        }
        Ok(Self(file))
    }

    fn write(&mut self, event: &Event, at: SystemTime) -> Result<()> {
        let mut object = object(event)?;
        object["time"] = OffsetDateTime::from(at).format(&Rfc3339)?.into();
        // In one piece: a reader sees whole lines, and so does who comes after a kill.
        Ok(self.0.write_all(format!("{object}\n").as_bytes())?)
    }
}

/// Whether nothing is left of a line that was cut off, as by a full disk.
fn ends_with_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn object(event: &Event) -> Result<Value> {
    Ok(match event {
        Event::Begin(Begun { name, folder: _, done, planned, batch_size, samples: _ }) => {
            json!({ "event": "begin", "run": name, "step": done, "planned_steps": planned, "batch_size": batch_size })
        }
        Event::Test(Tested { evaluation, rate, is_best, stepped }) => {
            let mut object = serde_json::to_value(evaluation)?;
            object["event"] = "test".into();
            object["rate"] = (*rate).into();
            object["is_best"] = (*is_best).into();
            object["step_milliseconds"] = (1e3 * stepped.per_step.as_secs_f64()).into();
            object["seconds_left"] = stepped.left.as_secs().into();
            object
        }
        Event::Checkpoint { step } => json!({ "event": "checkpoint", "step": step }),
        Event::Message(text) => json!({ "event": "message", "text": text }),
        Event::End { run } => {
            let progress = &run.record.progress;
            json!({ "event": "end", "step": progress.steps, "note": progress.note, "seconds": progress.wall_seconds })
        }
    })
}
