//! Series: means, shares, directions, panels and legends from small results.

use std::collections::BTreeMap;

use polars::df;

use crate::report::{
    plot::{chart::Chart, scale::Kind},
    results::Results,
    series::chart,
};

fn frames() -> BTreeMap<String, Results> {
    let probe = df!(
        "source" => ["waves", "waves", "noise", "noise", "waves"],
        "epoch" => [1i64, 1, 1, 0, 0],
        "accuracy" => [0.2, 0.4, 0.5, 0.1, 0.0],
    )
    .unwrap();
    let theory = df!("epoch" => [0.5], "accuracy" => [0.3]).unwrap();
    BTreeMap::from([("probe".to_owned(), probe.into()), ("theory".to_owned(), theory.into())])
}

fn build(toml: &str) -> (Chart, Vec<String>) {
    chart(&toml::from_str(toml).unwrap(), &frames()).unwrap()
}

fn names(chart: &Chart) -> Vec<Vec<&str>> {
    chart
        .legend
        .iter()
        .map(|group| group.entries.iter().map(|entry| entry.label.as_str()).collect())
        .collect()
}

fn points(chart: &Chart, panel: usize, series: usize) -> Vec<(f64, f64)> {
    chart.panels[panel].series[series].points.iter().map(|point| (point.x, point.y)).collect()
}

#[test]
fn lines_are_means_in_order_of_x() {
    let (chart, notes) =
        build("from = 'probe'\nx = 'epoch'\ny = 'accuracy'\ncolor = 'source'\nerror = 'sd'");
    let [(x0, y0), (x1, y1)] = points(&chart, 0, 0)[..] else { panic!("two epochs") };
    assert_eq!((x0, y0, x1), (0.0, 0.0, 1.0));
    assert!((y1 - 0.3).abs() < 1e-15);
    // The deviation of 0.2 and 0.4 is 0.1 √2.
    let spreads: Vec<Option<f64>> =
        chart.panels[0].series[0].points.iter().map(|point| point.spread).collect();
    assert!(spreads[0].is_none() && (spreads[1].unwrap() - 0.02f64.sqrt()).abs() < 1e-15);
    assert_eq!(names(&chart), [["waves", "noise"]]);
    assert_eq!(notes, ["accuracy: mean ± s.d. over rows, n = 1 to 2"]);
}

#[test]
fn points_are_rows() {
    let (chart, _) = build("from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'");
    assert_eq!(points(&chart, 0, 0), [(1.0, 0.2), (1.0, 0.4), (1.0, 0.5), (0.0, 0.1), (0.0, 0.0)]);
    assert!(chart.legend.is_empty());
}

#[test]
fn cumulative_shares_climb_from_zero_to_one() {
    let spec = "from = 'probe'\nmark = 'ecdf'\nx = 'accuracy'\ncolor = 'source'";
    let (chart, notes) = build(spec);
    // Of waves 0.2, 0.4 and 0.0, of noise 0.5 and 0.1.
    let third = 1.0 / 3.0;
    let waves = [(0.0, 0.0), (0.0, third), (0.2, third), (0.2, 2.0 * third), (0.4, 2.0 * third)];
    assert_eq!(points(&chart, 0, 0)[..5], waves);
    assert_eq!(points(&chart, 0, 0)[5..], [(0.4, 1.0)]);
    assert_eq!(points(&chart, 0, 1), [(0.1, 0.0), (0.1, 0.5), (0.5, 0.5), (0.5, 1.0)]);
    assert_eq!((chart.y.label.as_str(), notes.len()), ("cumulative share", 0));
    assert_eq!(names(&chart), [["waves", "noise"]]);
    // On a logarithmic axis the row at zero is below what is shown, and counts.
    let (chart, notes) = build(&format!("{spec}\nx_scale = 'log'"));
    assert_eq!(points(&chart, 0, 0)[..2], [(0.2, third), (0.2, 2.0 * third)]);
    assert_eq!(notes.len(), 1);
    assert!(chart.draw().unwrap().svg("shares").contains("</svg>"));
    // Equal values are one step.
    let (chart, _) = build("from = 'probe'\nmark = 'ecdf'\nx = 'epoch'");
    assert_eq!(points(&chart, 0, 0), [(0.0, 0.0), (0.0, 0.4), (1.0, 0.4), (1.0, 1.0)]);
    let text = toml::from_str("from = 'probe'\nmark = 'ecdf'\nx = 'source'").unwrap();
    let error = super::series::chart(&text, &frames()).map(drop).unwrap_err().to_string();
    assert!(error.contains("holds text, but a cumulative share needs numbers"), "{error}");
}

#[test]
fn rates_are_drawn_with_binomial_errors() {
    let frame = df!("kind" => ["a", "a", "a", "a", "b"], "ok" => [true, true, true, false, true]);
    let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
    let spec = "from = 's'\nmark = 'bar'\nx = 'kind'\ny = 'ok'\nerror = 'binomial'";
    let (drawn, notes) = chart(&toml::from_str(spec).unwrap(), &results).unwrap();
    let bars = &drawn.panels[0].series[0].points;
    assert_eq!((bars[0].y, bars[1].spread), (0.75, Some(0.0)));
    assert!((bars[0].spread.unwrap() - (0.75 * 0.25 / 4.0f64).sqrt()).abs() < 1e-15);
    assert_eq!(notes, ["ok: rate ± binomial error over rows, n = 1 to 4"]);
    let degrees = "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\nerror = 'binomial'";
    let error = chart(&toml::from_str(degrees).unwrap(), &frames()).map(drop).unwrap_err();
    assert!(error.to_string().contains("a binomial error needs yes and no"), "{error}");
}

#[test]
fn order_arranges_categories_legends_and_panels() {
    let order = "order = { source = ['noise'], epoch = [1] }";
    let (chart, _) = build(&format!(
        "from = 'probe'\nmark = 'bar'\nx = 'source'\ny = 'accuracy'\ncolor = 'epoch'\n{order}"
    ));
    assert_eq!(chart.x.kind, Kind::Categories(vec!["noise".to_owned(), "waves".to_owned()]));
    assert_eq!(names(&chart), [["1", "0"]]);
    let slots: Vec<_> = chart.panels[0].series.iter().map(|series| series.slot).collect();
    assert_eq!(slots, [(0, 2), (1, 2)]);
    let (chart, _) =
        build(&format!("from = 'probe'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\n{order}"));
    let titles: Vec<&str> = chart.panels.iter().map(|panel| panel.title.as_str()).collect();
    assert_eq!(titles, ["noise", "waves"]);
    assert_eq!(points(&chart, 0, 0), [(0.0, 0.1), (1.0, 0.5)]);
}

#[test]
fn a_layer_without_the_panel_column_is_in_every_panel() {
    let (chart, _) = build(
        "from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\n\
         layers = [{ from = 'theory', label = 'prediction' }]",
    );
    assert_eq!(points(&chart, 0, 1), points(&chart, 1, 1));
    assert_eq!(names(&chart), [["probe", "prediction"]]);
}

#[test]
fn layers_without_colors_differ() {
    let toml = "x = 'epoch'\ny = 'accuracy'\nlayers = [{ from = 'probe' }, { from = 'theory' }]";
    let (chart, _) = build(toml);
    assert_ne!(chart.panels[0].series[0].style, chart.panels[0].series[1].style);
    assert_eq!(names(&chart), [["probe", "theory"]]);
    let behind = build(&toml.replace("'theory' }", "'probe', color = 'source' }")).0;
    assert!(behind.panels[0].series[0].style.muted && !behind.panels[0].series[1].style.muted);
}

#[test]
fn logarithms_leave_out_what_is_not_positive() {
    let (chart, notes) = build(
        "from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\ny_scale = 'log'\nx_scale = 'log'",
    );
    assert_eq!(chart.panels[0].series[0].points.len(), 3);
    assert_eq!(
        notes,
        ["accuracy: 2 points are not positive and cannot be shown on a logarithmic axis"]
    );
    let range = "y_range = [0.15, 0.4]";
    let (chart, notes) =
        build(&format!("from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\n{range}"));
    assert_eq!(points(&chart, 0, 0), [(1.0, 0.2), (1.0, 0.4)]);
    assert_eq!(notes, ["accuracy: 3 points are beyond the axis and not shown"]);
}

#[test]
fn many_numbers_become_a_continuous_scale() {
    let values: Vec<f64> = (0..20).map(f64::from).collect();
    let frame = df!("x" => &values, "y" => &values, "z" => &values).unwrap();
    let spec =
        toml::from_str("from = 's'\nmark = 'scatter'\nx = 'x'\ny = 'y'\ncolor = 'z'").unwrap();
    let (chart, _) = chart(&spec, &BTreeMap::from([("s".to_owned(), frame.into())])).unwrap();
    let bar = chart.color_bar.as_ref().unwrap();
    assert_eq!(
        (bar.title.as_str(), bar.ramp.low, bar.ramp.high, chart.legend.len()),
        ("z", 0.0, 19.0, 0)
    );
}

#[test]
fn bars_of_several_layers_stand_beside_each_other() {
    let (chart, _) = build(
        "mark = 'bar'\nx = 'epoch'\ny = 'accuracy'\nlayers = [{ from = 'probe', color = 'source' }, \
         { from = 'theory' }, { from = 'probe', mark = 'scatter', color = 'source' }]",
    );
    let slots: Vec<_> = chart.panels[0].series.iter().map(|series| series.slot).collect();
    assert_eq!(slots, [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3)]);
}

#[test]
fn rows_without_a_panel_are_counted() {
    let frame =
        df!("p" => [Some("a"), None, Some("b")], "x" => [1.0, 2.0, 3.0], "y" => [1.0, 2.0, 3.0]);
    let spec = toml::from_str("from = 's'\nmark = 'scatter'\nx = 'x'\ny = 'y'\npanel = 'p'");
    let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
    let (chart, notes) = chart(&spec.unwrap(), &results).unwrap();
    assert_eq!((chart.panels.len(), notes), (2, vec!["y: 1 of 3 values missing".to_owned()]));
}

#[test]
fn sheets_hold_their_legends_and_have_an_end() {
    let names: Vec<String> = (0..300).map(|i| format!("n{i}")).collect();
    let draw = |toml: &str, count: usize| {
        let values: Vec<f64> = (0..count).map(|i| i as f64).collect();
        let panel: Vec<&str> = (0..count).map(|i| ["a", "b"][i % 2]).collect();
        let frame = df!("n" => &names[..count], "p" => panel, "v" => values).unwrap();
        let results = BTreeMap::from([("s".to_owned(), frame.into())]);
        chart(&toml::from_str(toml).unwrap(), &results)
            .unwrap()
            .0
            .draw()
            .map(drop)
            .map_err(|e| e.to_string())
    };
    let scatter = "from = 's'\nmark = 'scatter'\nx = 'v'\ny = 'v'\ncolor = 'n'\npanel = 'p'";
    assert_eq!(draw(scatter, 40), Ok(()));
    let low = draw(&format!("{scatter}\nheight = 200"), 40).unwrap_err();
    assert!(low.contains("pixels high, but `height` is 200"), "{low}");
    let wide = draw("from = 's'\nmark = 'bar'\nx = 'n'\ny = 'v'", 300).unwrap_err();
    assert!(wide.contains("at most 4000 x 4000"), "{wide}");
    let bars = toml::from_str("from = 's'\nmark = 'bar'\nx = 'p'\ny = 'v'\ncolor = 'n'").unwrap();
    let frame = df!("n" => &names[..17], "p" => ["a"; 17], "v" => [1.0; 17]).unwrap();
    let message =
        chart(&bars, &BTreeMap::from([("s".to_owned(), frame.into())])).map(drop).unwrap_err();
    assert!(message.to_string().contains("bars have only 16 colors"), "{message}");
}

#[test]
fn labels_name_axes_legends_and_notes() {
    let (chart, notes) = build(
        "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\ncolor = 'source'\n\
         labels = { accuracy = 'Top-1 ($)', source = 'Trained on' }",
    );
    assert_eq!(chart.y.label, "Top-1 (\\$)");
    assert_eq!(chart.legend[0].title.as_deref(), Some("Trained on"));
    assert_eq!(notes, ["Top-1 ($): mean over rows, n = 1 to 2"]);
}

#[test]
fn nothing_to_show_is_still_a_picture() {
    let (chart, notes) = build(
        "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\nwhere = { source = ['light'] }",
    );
    assert_eq!(notes, ["no row has source = light"]);
    assert!(chart.draw().unwrap().svg("empty").contains("</svg>"));
}

#[test]
fn moving_means_are_over_the_points_around_each() {
    let frame = df!("step" => [0i64, 1, 2, 3, 4, 5], "r" => [Some(6.0), Some(0.0), Some(3.0), None, Some(9.0), Some(0.0)]);
    let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
    let smooth = |over: usize| {
        let text = format!("x = 'step'\ny = 'r'\nlayers = [{{ from = 's', smooth = {over} }}]");
        chart(&toml::from_str(&text).unwrap(), &results).unwrap()
    };
    let (three, notes) = smooth(3);
    // The missing one is no point: 9 has 3 before it.
    let expected = [(0.0, 3.0), (1.0, 3.0), (2.0, 4.0), (4.0, 4.0), (5.0, 4.5)];
    assert_eq!(points(&three, 0, 0), expected);
    assert_eq!(notes, ["r: moving mean over 3 points", "r: 1 of 6 values missing"]);
    // Layers of the same column say what is missing there once.
    let text = "from = 's'\nx = 'step'\ny = 'r'\nlayers = [{ from = 's', smooth = 3 }]";
    let (_, notes) = chart(&toml::from_str(text).unwrap(), &results).unwrap();
    assert_eq!(notes, ["r: 1 of 6 values missing", "r: moving mean over 3 points"]);
    // Of two points the second lies behind.
    let expected = [(0.0, 3.0), (1.0, 1.5), (2.0, 6.0), (4.0, 4.5), (5.0, 0.0)];
    assert_eq!(points(&smooth(2).0, 0, 0), expected);
    assert!(points(&smooth(100).0, 0, 0).iter().all(|(_, y)| *y == 3.6));
}

#[test]
fn arrows_have_the_direction_of_their_rows() {
    let frame = df!(
        "x" => [0.0, 1.0, 2.0, 3.0],
        "y" => [Some(0.0), Some(1.0), None, Some(3.0)],
        "u" => [Some(1e200), Some(0.0), Some(1.0), None],
        "v" => [-1e200, 0.0, 1.0, 1.0],
    );
    let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
    let text = "from = 's'\nmark = 'arrow'\nx = 'x'\ny = 'y'\ndx = 'u'\ndy = 'v'";
    let (drawn, notes) = chart(&toml::from_str(text).unwrap(), &results).unwrap();
    let arrows: Vec<_> = drawn.panels[0].series[0].points.iter().map(|p| (p.x, p.step)).collect();
    assert_eq!(arrows, [(0.0, Some([1e200, -1e200])), (1.0, Some([0.0, 0.0]))]);
    assert_eq!(notes, ["y, u, v: 2 of 4 values missing"]);
    // A shaft and barbs for one, a dot for the other.
    let svg = drawn.draw().unwrap().svg("field");
    assert_eq!(svg.matches("stroke-width=\"1.1\"").count(), 2, "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let names = df!("x" => ["a"], "y" => [1.0], "u" => [1.0], "v" => [1.0]).unwrap();
    let names = BTreeMap::from([("s".to_owned(), names.into())]);
    let error = chart(&toml::from_str(text).unwrap(), &names).map(drop).unwrap_err().to_string();
    assert!(error.contains("arrows need numbers along x"), "{error}");
}

#[test]
fn entropies_are_drawn_with_their_errors() {
    let frame = df!("kind" => ["a", "a", "a", "a", "b"], "id" => [1i64, 2, 2, 2, 7]).unwrap();
    let results = BTreeMap::from([("s".to_owned(), frame.into())]);
    let spec = "from = 's'\nmark = 'bar'\nx = 'kind'\ny = 'id'\nerror = 'entropy'";
    let (drawn, notes) = chart(&toml::from_str(spec).unwrap(), &results).unwrap();
    let bars = &drawn.panels[0].series[0].points;
    let expected = 0.5 - 0.75 * (3f64.log2() - 2.0);
    assert!((bars[0].y - expected).abs() < 1e-15 && bars[0].spread.unwrap() > 0.3);
    assert_eq!((bars[1].y, bars[1].spread), (0.0, None));
    assert_eq!(drawn.y.label, "id (entropy in bits ± s.e.)");
    assert_eq!(notes, ["id: entropy in bits ± s.e. over rows, n = 1 to 4"]);
}

#[test]
fn names_have_an_entropy_too() {
    let frame = df!("kind" => ["a", "a", "b"], "class" => [Some("flat"), Some("critical"), None]);
    let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
    let spec = "from = 's'\nmark = 'bar'\nx = 'kind'\ny = 'class'\nerror = 'entropy'";
    let (drawn, notes) = chart(&toml::from_str(spec).unwrap(), &results).unwrap();
    assert_eq!(points(&drawn, 0, 0), [(0.0, 1.0)]);
    assert_eq!(notes.len(), 2, "{notes:?}");
}
