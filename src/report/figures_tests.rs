//! Figures from their specification to bytes, their mistakes, and what layers inherit.

use std::collections::BTreeMap;

use polars::df;

use crate::report::{
    figures::{FigureFormat, FigureSpec, Mark, all_formats, evaluate},
    results::Results,
};

fn spec(toml: &str) -> FigureSpec {
    toml::from_str(toml).unwrap()
}

fn frames() -> BTreeMap<String, Results> {
    let capacity = df!(
        "source" => ["waves", "waves", "noise", "noise", "waves", "waves", "noise", "noise"],
        "layer" => ["pool", "pool", "pool", "pool", "conv", "conv", "conv", "conv"],
        "capacity" => [0.1, 0.3, 0.05, 0.15, 0.4, 0.6, f64::NAN, 0.2],
    )
    .unwrap();
    let points = df!("index" => [0.1, 0.2, 0.3], "loss" => [0.5, 0.0, -1.0]).unwrap();
    BTreeMap::from([("capacity".to_owned(), capacity.into()), ("points".to_owned(), points.into())])
}

fn check_error(toml: &str, expected: &str) {
    let message = evaluate(&spec(toml), &frames()).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

const LINES: &str =
    "from = 'capacity'\nx = 'layer'\ny = 'capacity'\ncolor = 'source'\nerror = 'sem'";

#[test]
fn pictures_carry_their_labels_and_series() {
    let picture = evaluate(&spec(LINES), &frames()).unwrap();
    let svg = picture.svg();
    for label in
        ["pool", "conv", "waves", "noise", "capacity (mean ± s.e.m.)", ">layer<", ">source<"]
    {
        assert!(svg.contains(label), "{label}");
    }
    // A thick line for each of two sources, and one for each in the legend.
    assert_eq!(svg.matches("stroke-width=\"1.8\"").count(), 4);
    // `conv` of noise has a single value: the band of noise would be a point, so there is a bar instead.
    assert_eq!(svg.matches("fill-opacity=\"0.18\"").count(), 3);
    assert_eq!(
        picture.notes,
        ["capacity: mean ± s.e.m. over rows, n = 1 to 2", "capacity: 1 of 8 values missing"]
    );
}

#[test]
fn bytes_are_the_same_every_time() {
    for format in all_formats() {
        let bytes = || evaluate(&spec(LINES), &frames()).unwrap().encode(format).unwrap();
        assert_eq!(bytes(), bytes(), "{format:?}");
    }
    let png = evaluate(&spec(LINES), &frames()).unwrap().encode(FigureFormat::Png).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn text_from_results_is_escaped() {
    let frames = BTreeMap::from([(
        "s".to_owned(),
        df!("a" => ["<b> & $x$", "c"], "loss" => [1.0, 2.0]).unwrap().into(),
    )]);
    let figure = spec(
        "from = 's'\nmark = 'bar'\nx = 'a'\ny = 'loss'\nx_label = '$\\alpha$'\ntitle = '\"<i>\"'",
    );
    let svg = evaluate(&figure, &frames).unwrap().svg();
    for text in ["&lt;b&gt; &amp; $x$", ">α<", "aria-label=\"&quot;&lt;i>&quot;\""] {
        assert!(svg.contains(text), "{text}\n{svg}");
    }
}

#[test]
fn mistakes_are_explained() {
    check_error("x = 'a'", "the figure draws nothing");
    check_error("from = 'points'\nx = 'index'", "the figure of `points` needs a column for `y`");
    check_error("from = 'point'\nx = 'index'\ny = 'loss'", "hint: did you mean `points`?");
    check_error("from = 'points'\nx = 'index'\ny = 'los'", "hint: did you mean `loss`?");
    check_error(
        "from = 'points'\nx = 'index'\ny = 'loss'\npanel = 'indx'",
        "hint: did you mean `index`?",
    );
    check_error(
        "from = 'points'\nx = 'index'\ny = 'loss'\norder = { inde = [1] }",
        "`order` is about `inde`, which the figure does not use so\nhint: did you mean `index`?",
    );
    check_error(
        "from = 'capacity'\nx = 'capacity'\ny = 'source'",
        "column `source` holds text, but the vertical axis needs numbers",
    );
    check_error(
        "from = 'capacity'\nx = 'layer'\ny = 'capacity'\nx_scale = 'log'",
        "`x_scale = \"log\"` needs numbers, but the horizontal axis has categories",
    );
}

#[test]
fn layers_inherit_from_their_figure() {
    let figure = spec(
        "x = 'index'\ny = 'loss'\nmark = 'scatter'\nlayers = [{ from = 'a' }, { from = 'b', color = 'm', y = 'l', \
         error = 'sd' }, { from = 'c', mark = 'line', muted = true }]",
    );
    let layers = figure.resolved().unwrap();
    let summary: Vec<_> =
        layers.iter().map(|l| (l.from, l.mark, l.y, l.muted, l.averaged)).collect();
    assert_eq!(
        summary,
        [
            ("a", Mark::Scatter, "loss", true, false),
            ("b", Mark::Scatter, "l", false, true),
            ("c", Mark::Line, "loss", true, true),
        ]
    );
    assert_eq!(
        serde_json::from_str::<FigureSpec>(&serde_json::to_string(&figure).unwrap()).unwrap(),
        figure
    );
    assert!(toml::from_str::<FigureSpec>("from = 'a'\ncolour = 'b'").is_err());
}
