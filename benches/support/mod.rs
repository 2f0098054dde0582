//! What the benches share: routines timed in turn, ratios of their times, and the summary.
//!
//! A shared machine changes its speed from one second to the next, so an absolute time means little. Here every round
//! runs each routine once, and what is reported is the median, over the rounds, of the ratio of two times in one round.
#![allow(dead_code)] // each bench uses its own part

use criterion::{BenchmarkId, Criterion, Throughput};
use serde_json::{Map, Value, json};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tch::Device;

/// Where the benches run: on CUDA if there is a device, else on the CPU. `TCH_SVGD_BENCH_DEVICE=cpu` forces the latter.
pub fn device() -> Device {
    match std::env::var("TCH_SVGD_BENCH_DEVICE").as_deref() {
        Ok("cpu") => Device::Cpu,
        Ok(other) if other != "cuda" => panic!("TCH_SVGD_BENCH_DEVICE: expected cpu or cuda, got '{other}'"),
        _ => Device::cuda_if_available(),
    }
}

/// Waits until the device has done what it was given.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Starts the program again with a malloc that keeps what is freed (glibc). By default it returns every block above 32 MB
/// to the system, and a new tensor of that size costs several times the kernel that fills it in page faults: a ratio of
/// page faults would say nothing of kernels. `TCH_SVGD_BENCH_MEMORY=fresh` leaves malloc as it is.
pub fn reuse_memory() {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if std::env::var_os(TUNABLES).is_some() || std::env::var("TCH_SVGD_BENCH_MEMORY").is_ok_and(|m| m == "fresh") {
        return;
    }
    let keep = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736";
    let mut again = Command::new(std::env::current_exe().unwrap());
    panic!("{}", again.args(std::env::args_os().skip(1)).env(TUNABLES, keep).exec());
}

/// A routine and its name.
pub type Routine<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// The times of several routines that ran in turn: `seconds[round][routine]`.
pub struct Times {
    names: Vec<&'static str>,
    seconds: Vec<Vec<f64>>,
}

/// A ratio of two times: its median over the rounds, and its quartiles.
#[derive(Clone, Copy)]
pub struct Ratio {
    pub median: f64,
    pub quartiles: [f64; 2],
}

impl Times {
    fn of(&self, name: &str) -> Vec<f64> {
        let index = self.names.iter().position(|&n| n == name).unwrap_or_else(|| panic!("no routine '{name}'"));
        self.seconds.iter().map(|round| round[index]).collect()
    }

    /// The median time of a routine in seconds.
    pub fn median(&self, name: &str) -> f64 {
        quantile(self.of(name), 0.5)
    }

    /// How many times as long as `other` the routine `name` took, round by round.
    pub fn ratio(&self, name: &str, other: &str) -> Ratio {
        self.ratio_of_sum(&[(1.0, name)], other)
    }

    /// The same of routines together, each so many times.
    pub fn ratio_of_sum(&self, terms: &[(f64, &str)], other: &str) -> Ratio {
        let mut sums = vec![0.0; self.seconds.len()];
        for (times, name) in terms {
            sums.iter_mut().zip(self.of(name)).for_each(|(sum, seconds)| *sum += times * seconds);
        }
        let ratios: Vec<f64> = sums.iter().zip(self.of(other)).map(|(a, b)| a / b).collect();
        Ratio {
            median: quantile(ratios.clone(), 0.5),
            quartiles: [quantile(ratios.clone(), 0.25), quantile(ratios, 0.75)],
        }
    }
}

pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = share * (values.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    values[low] + (values[high] - values[low]) * place.fract()
}

/// Lets criterion time the first routine, and runs the others after it in each round. Criterion decides how many rounds
/// there are, and reports the first routine's time and, for `bytes` above 0, its throughput. None if the command line asks
/// for other cases.
pub fn in_turn(
    criterion: &mut Criterion,
    group: &str,
    case: &str,
    bytes: u64,
    mut routines: Vec<Routine>,
) -> Option<Times> {
    let device = device();
    let names: Vec<_> = routines.iter().map(|(name, _)| *name).collect();
    let mut seconds = Vec::new();
    let mut round = || {
        // Forwards and backwards in turn: nobody always runs in the wake of the same neighbour.
        let backwards = seconds.len() % 2 == 1;
        let mut times = vec![0.0; routines.len()];
        for place in 0..routines.len() {
            let index = if backwards { routines.len() - 1 - place } else { place };
            synchronize(device);
            let start = Instant::now();
            (routines[index].1)();
            synchronize(device);
            times[index] = start.elapsed().as_secs_f64();
        }
        let first = times[0];
        seconds.push(times);
        Duration::from_secs_f64(first)
    };
    let mut group = criterion.benchmark_group(group);
    if bytes > 0 {
        group.throughput(Throughput::Bytes(bytes));
    }
    // Criterion takes a sample's time to be that of the routine alone, and plans too many rounds for the time that it
    // has; flat sampling with one round for each sample keeps to the number that is asked for.
    group.sampling_mode(criterion::SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(2));
    group.bench_function(BenchmarkId::new(names[0], case), |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| round()).sum());
    });
    group.finish();
    // Criterion's own warm-up and the one round that it plans by.
    seconds.drain(..seconds.len().min(2));
    (!seconds.is_empty()).then_some(Times { names, seconds })
}

/// What a bench has found, printed line by line as it is found and kept in `target/bench/summary.json`.
pub struct Summary {
    bench: &'static str,
    ratios: Map<String, Value>,
    facts: Map<String, Value>,
}

impl Summary {
    pub fn new(bench: &'static str) -> Self {
        Self { bench, ratios: Map::new(), facts: Map::new() }
    }

    /// `ratio BENCH/NAME VALUE`, with the quartiles behind it; `ratio BENCH VALUE` of a bench's main one, which has no name.
    pub fn ratio(&mut self, name: &str, ratio: Ratio) {
        let [low, high] = ratio.quartiles;
        let slash = if name.is_empty() { "" } else { "/" };
        println!("ratio {}{slash}{name} {:.3} # quartiles {low:.3} {high:.3}", self.bench, ratio.median);
        self.ratios.insert(name.to_owned(), json!({ "median": ratio.median, "quartiles": ratio.quartiles }));
    }

    /// Any other number, such as bytes of state or GB/s.
    pub fn fact(&mut self, name: &str, value: f64, unit: &str) {
        println!("{}/{name}: {value:.4} {unit}", self.bench);
        self.facts.insert(name.to_owned(), json!({ "value": value, "unit": unit }));
    }

    /// Puts what this run measured into the summary, beside the other benches, in place of what this bench had there.
    pub fn write(self) {
        let folder = target().join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("summary.json");
        let mut summary: Map<String, Value> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let part = json!({
            "device": format!("{:?}", device()),
            "threads": tch::get_num_threads(),
            "processor": processor(),
            "ratios": self.ratios,
            "facts": self.facts,
        });
        summary.insert(self.bench.to_owned(), part);
        let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
        serde_json::to_writer_pretty(&mut file, &summary).unwrap();
        file.persist(&path).unwrap();
    }
}

/// The target folder: a bench is target/PROFILE/deps/NAME.
fn target() -> PathBuf {
    let bench = std::env::current_exe().unwrap();
    bench.ancestors().nth(3).unwrap().to_owned()
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    name.map_or("unknown", |(_, name)| name).to_owned()
}
