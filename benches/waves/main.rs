//! How fast waves are simulated, beside what the processor could do at most.
//!
//! `cargo bench --bench waves`. Each figure is the best of some runs, since other programs can only slow one down. The floor
//! counts the arithmetic of a time step, done at the highest rate of vector instructions that is measured here, or its
//! divisions, whichever takes longer; loads, stores and the noise are left out.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::hint::black_box;
use std::time::Instant;

use pulp::Arch;
use rayon::ThreadPoolBuilder;
use wavecrest::rng::Streams;
use wavecrest::waves::automaton::{self, Automaton};
use wavecrest::waves::godfrey_swindale::{self, GodfreySwindale, Preset};
use wavecrest::waves::lansdell::{self, Lansdell, Noise};
use wavecrest::waves::simulation::{Parameters, Recording};

/// Sums, products, comparisons and shifts that a cell takes in a time step: two evaluations of the rates of 99 each (three
/// powers of two of 19), the midpoint step 16, the test for numbers 3, the sweeps of the diffusion 7 each.
const OPERATIONS: f64 = 2.0 * 99.0 + 16.0 + 3.0 + 2.0 * 7.0;
/// Divisions: two evaluations of three gates and the synapses.
const DIVISIONS: f64 = 8.0;

fn main() {
    let floor = floor();
    lansdell(floor);
    others();
}

/// The shortest of some runs, in s.
fn best(runs: usize, mut run: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), runs).map(time).fold(f64::INFINITY, f64::min)
}

/// Measures vector instructions; yields the least time of a cell and step, in ns.
fn floor() -> f64 {
    let sums = [rate::<24>(true), rate::<48>(true), rate::<96>(true)];
    let operations = sums.into_iter().fold(0.0, f64::max);
    let quotients = [rate::<24>(false), rate::<48>(false), rate::<96>(false)];
    let divisions = quotients.into_iter().fold(0.0, f64::max);
    let (arithmetic, division) = (OPERATIONS / operations, DIVISIONS / divisions);
    println!(
        "one core, f64: {operations:.1} sums and products a ns, {divisions:.2} divisions a ns"
    );
    println!(
        "a cell and step: {OPERATIONS:.0} operations, {arithmetic:.2} ns, and {DIVISIONS:.0} divisions, {division:.2} ns"
    );
    arithmetic.max(division)
}

/// Operations a ns on 2 N independent numbers: as many sums as products, or quotients alone.
fn rate<const N: usize>(sums: bool) -> f64 {
    const ROUNDS: u32 = 20_000;
    let arch = Arch::new();
    let [factor, term, divisor] = black_box([1.000_000_1, 1e-9, 1.000_000_1]);
    let seconds = best(101, || {
        let (mut x, mut y) = black_box(([1.0; N], [1.0; N]));
        arch.dispatch(
            #[inline(always)]
            || {
                // The numbers are local to the loop, so that they stay in registers.
                let (mut a, mut b) = (x, y);
                for _ in 0..ROUNDS {
                    if sums {
                        a = a.map(|value: f64| value * factor);
                        b = b.map(|value: f64| value + term);
                    } else {
                        a = a.map(|value| value / divisor);
                        b = b.map(|value| value / divisor);
                    }
                }
                (x, y) = (a, b);
            },
        );
        black_box((x, y));
    });
    f64::from(2 * N as u32 * ROUNDS) / (1e9 * seconds)
}

/// Runs something on a number of threads; yields the shortest time in s.
fn on_threads(threads: usize, runs: usize, run: impl Fn() + Sync) -> f64 {
    let pool =
        ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    pool.install(|| best(runs, &run))
}

fn lansdell(floor: f64) {
    println!("\nlansdell, dt 1 ms, exponential noise; floor {floor:.2} ns");
    println!(
        "{:>6} {:>8} {:>16} {:>18} {:>8}",
        "size", "threads", "simulated s / s", "ns a cell and step", "floor"
    );
    for (size, seconds, runs) in
        [(32, 0.5, 200), (64, 0.2, 100), (128, 0.1, 60), (256, 0.05, 40), (512, 0.05, 20)]
    {
        for threads in [1, 2] {
            let model = Lansdell::default();
            let taken = on_threads(threads, runs, || run_lansdell(&model, size, seconds));
            let each = 1e9 * taken / (size * size) as f64 / (seconds / model.dt);
            let share = 100.0 * floor / each / threads as f64;
            println!(
                "{size:>6} {threads:>8} {:>16.2} {each:>18.2} {share:>6.0} %",
                seconds / taken
            );
        }
    }
    let noise = Noise::Bernoulli { conductance: 20.0, probability: 1.25e-4 };
    let fast =
        Lansdell { dt: 0.005, noise, hyperpolarization_strength: 0.5, ..Lansdell::default() };
    let taken = on_threads(1, 50, || run_lansdell(&fast, 32, 10.0));
    println!("size 32, dt 5 ms, realistic noise, one thread: {:.0} simulated s / s", 10.0 / taken);
}

fn recording(size: usize, seconds: f64) -> Recording {
    Recording { size, frames: 1, output_rate: 1.0, burn_in: seconds }
}

fn run_lansdell(model: &Lansdell, size: usize, seconds: f64) {
    let parameters = Parameters { recording: recording(size, seconds), model: model.clone() };
    let streams = Streams::new(1, "bench");
    black_box(lansdell::simulate(&parameters, &streams, None, &|_| (), &|_| false))
        .expect("the parameters are fine");
}

fn others() {
    println!("\nothers, one thread, {:>30}", "simulated s / s");
    let streams = Streams::new(1, "bench");
    for (name, preset) in
        [("mouse", Preset::Mouse), ("ferret", Preset::Ferret), ("reward", Preset::Reward)]
    {
        let model = GodfreySwindale { preset, ..GodfreySwindale::default() };
        let parameters = Parameters { recording: recording(64, 300.0), model };
        let seconds = best(5, || {
            black_box(godfrey_swindale::simulate(&parameters, &streams, None, &|_| (), &|_| false))
                .expect("the parameters are fine");
        });
        println!("godfrey_swindale, {name}, 2 mm: {:.0}", 300.0 / seconds);
    }
    let parameters = Parameters { recording: recording(32, 10_000.0), model: Automaton::default() };
    let seconds = best(5, || {
        black_box(automaton::simulate(&parameters, &streams, None, &|_| (), &|_| false))
            .expect("the parameters are fine");
    });
    println!("automaton, 32 x 32, dt 50 ms: {:.0}", 10_000.0 / seconds);
}
