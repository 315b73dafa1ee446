//! Waves that were recorded: spikes and movies come in, pictures go out.

use std::fs;

use crate::bench::Bench;

/// Two units that spike in turn, eight times each.
fn spikes() -> String {
    let spike = |i: usize| format!("{},{},{},0\n", i as f64 / 4.0 + 0.1, i % 2, i % 2 * 42);
    format!("t_s,unit,x_um,y_um\n{}", (0..16).map(spike).collect::<String>())
}

const TEXT: &str = r#"
[experiment]
name = "eyes"

[stages.recording]
kind = "waves.recording"
path = "spikes.csv"
size = 2
output_rate = 5

[stages.mosaic]
kind = "movie.frames"
movie = "@recording"
every = 4

[figures.mosaic]
from = "mosaic"
mark = "tile"
x = "x"
y = "y"
y_scale = "reversed"
color = "value"
panel = "elapsed"
"#;

#[test]
fn a_recording_becomes_a_mosaic_of_frames() {
    let bench = Bench::new(TEXT);
    bench.write("spikes.csv", &spikes());
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let svg = bench.read("reports/eyes/mosaic.svg");
    // 3.85 s at 5 frames a second are 20 frames, of which every fourth is shown.
    assert_eq!(svg.matches("<image ").count(), 5);
    assert!(svg.contains(">elapsed = 0.8<") && svg.len() < 30_000, "{svg}");
    assert!(fs::read(bench.path("reports/eyes/mosaic.png")).unwrap().starts_with(b"\x89PNG"));
    let shown = bench.run(&["show", "x.toml", "recording"]).stdout;
    for metric in ["spikes", "units", "seconds", "empty_pixels"] {
        assert!(shown.contains(metric), "{shown}");
    }
}

#[test]
fn what_is_wrong_with_a_recording_is_said_with_what_to_do() {
    let bench = Bench::new(TEXT);
    let check = |spikes: &str, message: &str, hint: &str| {
        bench.write("spikes.csv", spikes);
        let ended = bench.run(&["run", "x.toml"]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{message}\n{}", ended.stderr);
        assert!(ended.stderr.contains(hint), "{hint}\n{}", ended.stderr);
    };
    let columns = "its columns are `time`, `unit`, `x_um`, `y_um`";
    check("time,unit,x_um,y_um\n1,1,0,0\n", "spikes.csv has no column `t_s`", columns);
    check("t_s,unit,x_um,y_um\n", "spikes.csv holds no spike", "a row for each spike");
    let nan = "t_s,unit,x_um,y_um\n0.5,1,0,0\nnan,2,42,0\n";
    check(nan, "column `t_s` holds something that is no number in row 2", "finite numbers, in s");
}

#[test]
fn what_is_wrong_with_a_movie_is_said_with_what_to_do() {
    let text = "[experiment]\nname = \"film\"\n[stages.film]\nkind = \"waves.movie\"\npath = \"film\"\nrate = 10\n";
    let bench = Bench::new(text);
    let check = |bytes: &[u8], message: &str, hint: &str| {
        fs::write(bench.path("film"), bytes).unwrap();
        let ended = bench.run(&["run", "x.toml"]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{message}\n{}", ended.stderr);
        assert!(ended.stderr.contains(hint), "{hint}\n{}", ended.stderr);
    };
    check(b"II*\0\xff\xff\xff\xff", "film cannot be read", "the file must be whole");
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1, 1), }";
    let array = [b"\x93NUMPY\x01\x00\x3f\x00", header.as_bytes(), b"\n12345678"].concat();
    check(&array, "film holds values of type `<i8`", "astype");
}

#[test]
fn a_movie_is_copied_out_as_a_gif() {
    let export = "[stages.film]\nkind = \"movie.export\"\nmovie = \"@recording\"\n";
    let bench = Bench::new(&format!("{TEXT}{export}"));
    bench.write("spikes.csv", &spikes());
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = bench.run(&["export", "x.toml", "film", "out"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let bytes = fs::read(bench.path("out/file")).unwrap();
    assert!(bytes.starts_with(b"GIF89a") && bytes.ends_with(b";"));
}
