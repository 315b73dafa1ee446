//! What is wrong with a table or figure that can be seen before any result is there.

use std::collections::BTreeSet;

use crate::report::{
    aggregate::Aggregate,
    error::{ReportError, nearest},
    figures::{Aspect, AxisScale, FigureSpec, Layer, Mark, Spread},
    tables::{TableSpec, key_of},
};

/// A mistake in a specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The keys that lead to it; items of lists by their number.
    pub path: Vec<String>,
    pub place: Place,
    pub message: String,
    pub hint: Option<String>,
}

/// What of the last step of a path is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Key,
    Value,
}

const NO_ARROW: &str = "steps are for arrows, but the mark is another";

/// Most digits after the decimal point that a double can tell apart near one.
const MOST_DIGITS: usize = 17;

impl Problem {
    fn value(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|&step| step.to_owned()).collect();
        Self { path, place: Place::Value, message: message.into(), hint: None }
    }

    /// A name that none of the columns has.
    fn unused(map: &str, name: &str, what: &str, used: &[String]) -> Self {
        let hint = match nearest(name, used) {
            Some(near) => format!("did you mean `{near}`?"),
            None if used.is_empty() => format!("the {what} names no such columns"),
            None => format!("columns: {}", used.join(", ")),
        };
        Self {
            path: vec![map.to_owned(), name.to_owned()],
            place: Place::Key,
            message: format!("`{map}` is about `{name}`, which the {what} does not use so"),
            hint: Some(hint),
        }
    }
}

impl From<Problem> for ReportError {
    fn from(problem: Problem) -> Self {
        let hint = problem.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        Self::Incomplete(problem.message + &hint)
    }
}

impl TableSpec {
    /// Finds what no results could mend.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let keys: Vec<String> = self.keys().into_iter().map(str::to_owned).collect();
        for (list, names) in [("rows", &self.rows), ("columns", &self.columns)] {
            for (index, name) in names.iter().enumerate() {
                let place = if list == "rows" { index } else { self.rows.len() + index };
                if keys[..place].contains(name) {
                    let message = format!("`{name}` is named twice");
                    problems.push(Problem::value(&[list, &index.to_string()], message));
                }
            }
        }
        if self.values.is_empty() && !self.columns.is_empty() {
            let message = "`columns` spreads values over the table, but `values` names none";
            problems.push(Problem::value(&["columns"], message));
        }
        problems.extend(self.doubled());
        if !self.values.is_empty() {
            for (index, name) in self.sort.iter().enumerate() {
                let name = key_of(name).0;
                if !self.is_sortable(name) {
                    let message = self.unsortable(name).to_string();
                    problems.push(Problem::value(&["sort", &index.to_string()], message));
                }
            }
        }
        let unordered = self.order.keys().filter(|name| !keys.contains(name));
        problems.extend(unordered.map(|name| Problem::unused("order", name, "table", &keys)));
        let mut shown = keys.clone();
        shown.extend(self.values.iter().map(|(name, _)| name.to_owned()));
        // A table that names nothing shows every column.
        let unlabeled = self.labels.keys().filter(|n| !shown.is_empty() && !shown.contains(n));
        problems.extend(unlabeled.map(|name| Problem::unused("labels", name, "table", &shown)));
        if self.digits.is_some_and(|digits| digits > MOST_DIGITS) {
            let message = format!("`digits` is at most {MOST_DIGITS}");
            problems.push(Problem::value(&["digits"], message));
        }
        problems
    }

    /// Finds summaries that no column or two columns of the same name would show.
    fn doubled(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, aggregates) in self.values.iter() {
            let mut seen = BTreeSet::new();
            let mut taken = |suffix: String| !seen.insert(suffix);
            for (index, aggregate) in aggregates.0.iter().enumerate() {
                // A mean and an entropy of the same values share their number.
                let count = aggregate.spread().filter(|_| *aggregate != Aggregate::Entropy);
                let count = count.map(|_| "n");
                let suffixes =
                    [Some(aggregate.suffix()), aggregate.spread(), count].map(|suffix| {
                        suffix.map(|suffix| format!("_{}", suffix.trim_start_matches('_')))
                    });
                if suffixes.into_iter().flatten().any(&mut taken) {
                    let message = format!(
                        "`{aggregate}` writes a column that another summary of `{name}` writes too"
                    );
                    problems.push(Problem::value(&["values", name, &index.to_string()], message));
                }
            }
            if aggregates.0.is_empty() {
                let message = format!("`{name}` lists no summary");
                problems.push(Problem::value(&["values", name], message));
            }
        }
        problems
    }
}

impl FigureSpec {
    /// Finds what no results could mend.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, length) in [("width", self.width), ("height", self.height)] {
            if length.is_some_and(|pixels| !(100..=4000).contains(&pixels)) {
                let message = format!("`{name}` must be between 100 and 4000 pixels");
                problems.push(Problem::value(&[name], message));
            }
        }
        let layers = match self.resolved() {
            Ok(layers) => layers,
            Err(problem) => {
                problems.push(problem);
                return problems;
            }
        };
        if self.x_scale == AxisScale::Log && layers.iter().any(|layer| layer.mark == Mark::Bar) {
            let message = "`x_scale = \"log\"` needs numbers, but bars stand over categories";
            problems.push(Problem::value(&["x_scale"], message));
        }
        problems.extend(self.check_tiles(&layers));
        problems.extend(self.check_lines_and_arrows(&layers));
        let used = self.columns_of(&layers, |layer| {
            vec![Some(layer.x), layer.color, layer.value.map(|_| layer.y)]
        });
        let unordered = self.order.keys().filter(|name| !used.contains(name));
        problems.extend(unordered.map(|name| Problem::unused("order", name, "figure", &used)));
        let used = self.columns_of(&layers, |l| vec![Some(l.x), Some(l.y), l.color, l.value]);
        let unlabeled = self.labels.keys().filter(|name| !used.contains(name));
        problems.extend(unlabeled.map(|name| Problem::unused("labels", name, "figure", &used)));
        problems
    }

    /// Finds what is wrong with tiles and cumulative shares, and with what was made for them.
    fn check_tiles(&self, layers: &[Layer<'_>]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let has_errors = |layer: &Layer<'_>| layer.value.is_some() && layer.error != Spread::None;
        if self.error.is_some() && layers.iter().any(has_errors) {
            problems.push(Problem::value(&["error"], "tiles show means alone, without `error`"));
        }
        if let Some([low, high]) = self.color_range
            && !(low < high && (high - low).is_finite())
        {
            let message = "`color_range` is a lower and a higher number";
            problems.push(Problem::value(&["color_range"], message));
        }
        if let Some([low, high]) = self.y_range {
            let log = self.y_scale == AxisScale::Log;
            if !(low < high && (high - low).is_finite() && (!log || low > 0.0)) {
                let above = if log { ", both above 0 on a logarithmic axis" } else { "" };
                let message = format!("`y_range` is a lower and a higher number{above}");
                problems.push(Problem::value(&["y_range"], &message));
            }
            if layers.iter().any(|layer| matches!(layer.mark, Mark::Bar | Mark::Tile)) {
                let message = "`y_range` leaves out points, but bars and tiles are drawn whole";
                problems.push(Problem::value(&["y_range"], message));
            }
        }
        if self.error.is_some() && layers.iter().all(|layer| layer.mark == Mark::Ecdf) {
            let message = "cumulative shares are drawn without `error`";
            problems.push(Problem::value(&["error"], message));
        }
        let log = self.x_scale == AxisScale::Log || self.y_scale == AxisScale::Log;
        if self.aspect == Some(Aspect::Equal) && log {
            let message = "`aspect = \"equal\"` needs linear axes, but one is logarithmic";
            problems.push(Problem::value(&["aspect"], message));
        }
        if self.aspect == Some(Aspect::Equal) && layers.iter().any(|l| l.mark == Mark::Bar) {
            let message = "`aspect = \"equal\"` needs numbers, but bars stand over categories";
            problems.push(Problem::value(&["aspect"], message));
        }
        problems
    }

    /// Finds what is wrong with moving means and arrows.
    fn check_lines_and_arrows(&self, layers: &[Layer<'_>]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let number = index.checked_sub(usize::from(self.from.is_some()));
            let written = number.and_then(|number| self.layers.get(number));
            let number = number.map(|number| number.to_string());
            let mut report = |own: bool, field: &str, message: &str| {
                let path = match &number {
                    Some(number) if own => vec!["layers", number, field],
                    _ => vec![field],
                };
                problems.push(Problem::value(&path, message));
            };
            match layer.smooth {
                Some(0 | 1) => report(true, "smooth", "`smooth` is a mean over 2 points or more"),
                Some(_) if layer.mark != Mark::Line => {
                    report(true, "smooth", "`smooth` is for lines, whose points have an order");
                }
                Some(_) if layer.error != Spread::None => {
                    report(true, "smooth", "a moving mean is drawn without `error`");
                }
                _ => (),
            }
            if layer.mark == Mark::Arrow && layer.error != Spread::None {
                let own = written.is_some_and(|layer| layer.error.is_some());
                report(own, "error", "arrows are rows, without `error`");
            }
            if layer.mark != Mark::Arrow {
                let steps = written.map(|layer| [("dx", &layer.dx), ("dy", &layer.dy)]);
                for (field, _) in steps.into_iter().flatten().filter(|(_, step)| step.is_some()) {
                    report(true, field, NO_ARROW);
                }
            }
        }
        let arrows = layers.iter().any(|layer| layer.mark == Mark::Arrow);
        for (field, scale) in [("x_scale", self.x_scale), ("y_scale", self.y_scale)] {
            if arrows && scale == AxisScale::Log {
                let message = "arrows show steps along linear axes";
                problems.push(Problem::value(&[field], message));
            }
        }
        for (field, step) in [("dx", &self.dx), ("dy", &self.dy)] {
            if !arrows && step.is_some() {
                problems.push(Problem::value(&[field], NO_ARROW));
            }
        }
        if self.from.is_none() && self.smooth.is_some() {
            let message = "`smooth` is of the figure's own results, but it has no `from`";
            let hint = Some("give `smooth` to layers".to_owned());
            problems.push(Problem { hint, ..Problem::value(&["smooth"], message) });
        }
        problems
    }

    /// The columns that a figure names, each once.
    fn columns_of<'a>(
        &'a self,
        layers: &[Layer<'a>],
        of: impl Fn(&Layer<'a>) -> Vec<Option<&'a str>>,
    ) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let named = layers.iter().flat_map(of).chain([self.panel.as_deref()]).flatten();
        for name in named {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

impl Problem {
    /// Says that the figure, or the layer with a number, lacks the column of an axis.
    pub(crate) fn lacks(axis: &str, layer: Option<usize>, from: &str) -> Self {
        let message = format!("the figure of `{from}` needs a column for `{axis}`");
        match layer {
            Some(index) => Self::value(&["layers", &index.to_string()], message),
            None => Self::value(&[], message),
        }
    }

    /// Says that a figure has nothing to draw.
    pub(crate) fn nothing_to_draw() -> Self {
        let hint = Some("give it `from` or `layers`".to_owned());
        Self { hint, ..Self::value(&[], "the figure draws nothing") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(problems: &[Problem]) -> Vec<(String, &str)> {
        problems.iter().map(|p| (p.path.join("."), p.message.as_str())).collect()
    }

    fn check_table(toml: &str, path: &str, message: &str) {
        let spec: TableSpec = toml::from_str(&format!("from = 'probe'\n{toml}")).unwrap();
        assert_eq!(found(&spec.check()), [(path.to_owned(), message)], "{toml}");
    }

    fn check_figure(toml: &str, path: &str, message: &str) {
        let spec: FigureSpec = toml::from_str(toml).unwrap();
        assert_eq!(found(&spec.check()), [(path.to_owned(), message)], "{toml}");
    }

    #[test]
    fn tables_are_checked_without_results() {
        check_table(
            "columns = ['a']",
            "columns",
            "`columns` spreads values over the table, but `values` names none",
        );
        check_table("rows = ['a', 'a']", "rows.1", "`a` is named twice");
        check_table("digits = 400", "digits", "`digits` is at most 17");
        check_table(
            "rows = ['a']\nvalues = { loss = 'max' }\nsort = ['a', '-los']",
            "sort.1",
            "the table cannot be sorted by `los`; it can by its `rows` and its `values`",
        );
        check_table(
            "values = { loss = ['mean±sem', 'mean'] }",
            "values.loss.1",
            "`mean` writes a column that another summary of `loss` writes too",
        );
        check_table(
            "values = { ok = ['mean±sem', 'rate'] }",
            "values.ok.1",
            "`rate` writes a column that another summary of `ok` writes too",
        );
        let both = "from = 'p'\nvalues = { id = ['mean±sem', 'entropy', 'count'] }";
        assert_eq!(toml::from_str::<TableSpec>(both).unwrap().check(), []);
        check_table("values = { loss = [] }", "values.loss", "`loss` lists no summary");
        check_table(
            "rows = ['a']\norder = { b = [1] }",
            "order.b",
            "`order` is about `b`, which the table does not use so",
        );
        check_table(
            "rows = ['a']\nlabels = { b = 'B' }",
            "labels.b",
            "`labels` is about `b`, which the table does not use so",
        );
        let good = "from = 'p'\nrows = ['a']\nvalues = { loss = ['mean±sem', 'max', 'count'] }\n\
                    sort = ['-loss_max', 'loss', 'a']\nlabels = { loss = 'L' }\norder = { a = [2] }";
        assert_eq!(toml::from_str::<TableSpec>(good).unwrap().check(), []);
    }

    #[test]
    fn figures_are_checked_without_results() {
        check_figure("x = 'a'", "", "the figure draws nothing");
        check_figure("from = 'p'\nx = 'a'", "", "the figure of `p` needs a column for `y`");
        check_figure(
            "from = 'p'\nx = 'a'\ny = 'b'\nwidth = 50000",
            "width",
            "`width` must be between 100 and 4000 pixels",
        );
        check_figure(
            "y = 'b'\nlayers = [{ from = 'p', x = 'a' }, { from = 'q' }]",
            "layers.1",
            "the figure of `q` needs a column for `x`",
        );
        check_figure(
            "from = 'p'\nmark = 'bar'\nx = 'a'\ny = 'b'\nx_scale = 'log'",
            "x_scale",
            "`x_scale = \"log\"` needs numbers, but bars stand over categories",
        );
        let tiles = "from = 'p'\nmark = 'tile'\nx = 'a'\ny = 'b'";
        check_figure(tiles, "", "the figure of `p` needs a column for `color`");
        let tiles = format!("{tiles}\ncolor = 'c'");
        check_figure(
            &format!("{tiles}\nerror = 'sem'"),
            "error",
            "tiles show means alone, without `error`",
        );
        check_figure(
            "from = 'p'\nmark = 'ecdf'\nx = 'r'\nerror = 'sem'",
            "error",
            "cumulative shares are drawn without `error`",
        );
        check_figure(
            "from = 'p'\nx = 'a'\ny = 'b'\ny_scale = 'log'\ny_range = [0, 1]",
            "y_range",
            "`y_range` is a lower and a higher number, both above 0 on a logarithmic axis",
        );
        check_figure(
            "from = 'p'\nmark = 'bar'\nx = 'a'\ny = 'b'\ny_range = [0, 1]",
            "y_range",
            "`y_range` leaves out points, but bars and tiles are drawn whole",
        );
        check_figure(
            &format!("{tiles}\ncolor_range = [1, 1]"),
            "color_range",
            "`color_range` is a lower and a higher number",
        );
        check_figure(
            &format!("{tiles}\ny_scale = 'log'\naspect = 'equal'"),
            "aspect",
            "`aspect = \"equal\"` needs linear axes, but one is logarithmic",
        );
        let good = format!("{tiles}\norder = {{ b = ['u'] }}\nlabels = {{ c = 'C' }}");
        assert_eq!(toml::from_str::<FigureSpec>(&good).unwrap().check(), []);
        check_figure(
            "from = 'p'\nx = 'index'\ny = 'b'\norder = { inde = [1] }",
            "order.inde",
            "`order` is about `inde`, which the figure does not use so",
        );
    }

    #[test]
    fn moving_means_and_arrows_are_checked() {
        let line = "from = 'p'\nx = 'a'\ny = 'b'";
        check_figure(
            &format!("{line}\nsmooth = 1"),
            "smooth",
            "`smooth` is a mean over 2 points or more",
        );
        check_figure(
            &format!("{line}\nlayers = [{{ from = 'q', mark = 'bar', smooth = 3 }}]"),
            "layers.0.smooth",
            "`smooth` is for lines, whose points have an order",
        );
        check_figure(
            &format!("{line}\nerror = 'sd'\nsmooth = 3"),
            "smooth",
            "a moving mean is drawn without `error`",
        );
        let arrows = format!("{line}\nmark = 'arrow'\ndx = 'u'");
        check_figure(&arrows, "", "the figure of `p` needs a column for `dy`");
        check_figure(
            &format!("{arrows}\ndy = 'v'\ny_scale = 'log'"),
            "y_scale",
            "arrows show steps along linear axes",
        );
        check_figure(
            &format!("{arrows}\ndy = 'v'\nerror = 'sem'"),
            "error",
            "arrows are rows, without `error`",
        );
        let field = "layers = [{ from = 'q', mark = 'arrow', dx = 'u', dy = 'v', error = ";
        check_figure(
            &format!("{line}\n{field}'sem' }}]"),
            "layers.0.error",
            "arrows are rows, without `error`",
        );
        let over_means = format!("{line}\nerror = 'sem'\n{field}'none' }}]");
        assert_eq!(toml::from_str::<FigureSpec>(&over_means).unwrap().check(), []);
        check_figure(&format!("{line}\ndx = 'u'"), "dx", NO_ARROW);
        check_figure(
            &format!("{line}\nlayers = [{{ from = 'q', dy = 'u' }}]"),
            "layers.0.dy",
            NO_ARROW,
        );
        check_figure(
            "x = 'a'\ny = 'b'\nsmooth = 3\nlayers = [{ from = 'q' }]",
            "smooth",
            "`smooth` is of the figure's own results, but it has no `from`",
        );
    }
}
