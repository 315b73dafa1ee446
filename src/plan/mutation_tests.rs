//! No experiment, however damaged, may panic the reader or the planner: all is read, or refused in words.

use proptest::prelude::*;

use crate::engine::toys::TOYS;
use crate::plan::build;
use crate::spec::experiment::read_text;
use crate::spec::{Diagnostics, Sources};
use crate::store::stamps::Stamps;

/// An experiment that uses the whole language but other files.
const GOOD: &str = r#"#:schema ./wavecrest.schema.json
[experiment]
name = "all"
about = 'é, 四 and 🌊'
seed = 7

[axes]
source = ["one", "two"]
size = [{ name = "small", value = 2, more = [1] }, { name = "big", value = 3 }]
n = { range = [0, 3] }
part = { linspace = [0, 1, 3] }
rate = { logspace = [1e-2, 1, 3] }
exclude = [{ source = "one", size = { value = 3 } }, { n = [2] }]
include = [{ n = 8 }]

[defaults."toy.constant"]
seed = 1
retries = 2

[stages.one]
kind = "toy.constant"
about = "a $${plain} text"
value = "${n}"
when = { n = [0, 1, 8] }

[stages.two]
kind = "toy.constant"
value = "${size.value}"
seed = "${n}"

[stages.half]
kind = "toy.half"
of = "@${source}"
resources = { cpu = 1, memory = "1 GiB", gpu = 0.5, time = "1h30m" }
timeout = "90s"
keep = false

[stages.sum]
kind = "toy.sum"
left = "@half"
right = "@two"
instead = "nothing"

[stages.total]
kind = "toy.total"
of = { stage = "half", over = ["n", "source"] }

[stages.both]
kind = "toy.total"
of = ["@one", "@two.main"]

[tables.t]
from = "sum"
rows = ["source", "n"]
values = { value = ["mean±sem", "max"] }
sort = ["-n"]
labels = { n = "N" }
write = ["csv"]

[figures.f]
x = "n"
y = "value"
error = "sem"
layers = [{ from = "sum", mark = "line" }, { from = "total", mark = "scatter" }]

[profiles.smoke]
experiment.seed = 8
axes.n = [0]
stages.half.keep = true
"#;

/// Reads and plans a text, and writes out what is wrong with it.
fn said(text: &str) -> String {
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = read_text("x.toml".as_ref(), text, &mut sources, &mut errors);
    build(experiment, &sources, TOYS, &mut Stamps::default(), &mut errors);
    errors.render(&sources, false)
}

/// The place in the text that a fraction of its length leads to.
fn place(text: &str, fraction: f64) -> usize {
    text.floor_char_boundary((text.len() as f64 * fraction) as usize)
}

#[test]
fn the_text_that_is_damaged_is_good() {
    assert_eq!(said(GOOD), "0 errors\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Some characters are replaced by others.
    #[test]
    fn no_damage_panics(
        at in 0.0..1.0_f64,
        taken in 0_usize..12,
        junk in "[\\[\\]{}=\"'\\\\@$.,#*+a-f四é\u{1f30a}\u{301}\u{202e}\n\r0-9_ -]{0,3}",
    ) {
        let at = place(GOOD, at);
        let rest = GOOD.ceil_char_boundary((at + taken).min(GOOD.len()));
        said(&format!("{}{junk}{}", &GOOD[..at], &GOOD[rest..]));
    }

    /// Lines are taken out, or stand where others belong.
    #[test]
    fn no_order_panics(moved in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 1..4)) {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        for (from, to) in moved {
            let count = lines.len() as f64;
            let line = lines.remove((count * from) as usize);
            // The last tenth is where they go lost.
            if to < 0.9 {
                lines.insert(((count - 1.0) * to / 0.9) as usize, line);
            }
        }
        said(&lines.join("\n"));
    }

    /// A value stands where another belongs: all of them parse, and few fit.
    #[test]
    fn no_value_panics(
        from in 0.0..1.0_f64,
        value in prop_oneof![
            Just("-0.0"), Just("9223372036854775807"), Just("-9223372036854775808"), Just("1e308"),
            Just("nan"), Just("true"), Just("''"), Just("'${'"), Just("'${n}${size.more}'"),
            Just("'${size}'"), Just("'@'"), Just("'@sum'"), Just("'@total.x'"), Just("'@${size}'"),
            Just("[]"), Just("[[]]"), Just("{}"), Just("{ stage = 'sum', over = ['n', 'n'] }"),
            Just("{ range = [3, 0] }"), Just("{ linspace = [-1.7e308, 1.7e308, 3] }"),
            Just("{ n = 1, source = ['one'] }"), Just("[{ n = 1 }, { n = [0, 1] }, {}]"),
        ],
    ) {
        let lines: Vec<&str> = GOOD.lines().collect();
        let chosen = (lines.len() as f64 * from) as usize;
        let changed = |(number, line): (usize, &&str)| match line.split_once(" = ") {
            Some((key, _)) if number == chosen => format!("{key} = {value}"),
            _ => (*line).to_owned(),
        };
        let text: Vec<String> = lines.iter().enumerate().map(changed).collect();
        said(&text.join("\n"));
    }
}
