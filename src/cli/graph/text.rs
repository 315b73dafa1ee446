//! A drawing as text for other programs to lay out: Mermaid and DOT.

use super::drawing::{Drawing, Shape, State};

/// Writes a drawing as Mermaid.
pub fn mermaid(drawing: &Drawing) -> String {
    let mut text = String::from("graph TD\n");
    for (i, shape) in drawing.boxes.iter().enumerate() {
        let lines = lines(shape).map(|line| entities(&line)).join("<br/>");
        text += &format!("    n{i}[\"{lines}\"]:::{}\n", class(shape.state()));
    }
    for (from, to) in &drawing.arrows {
        text += &format!("    n{from} --> n{to}\n");
    }
    for state in State::ALL {
        let (fill, stroke) = (state.fill(), state.stroke());
        let class = class(state);
        text += &format!("    classDef {class} fill:{fill},stroke:{stroke},color:#1a1a1a\n");
    }
    text
}

/// Writes a drawing in the language of Graphviz.
pub fn dot(drawing: &Drawing) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&drawing.name));
    text += "    node [shape=box, style=filled, fontname=\"Helvetica\"];\n";
    for (i, shape) in drawing.boxes.iter().enumerate() {
        let (fill, stroke) = (shape.state().fill(), shape.state().stroke());
        let label = quoted(&lines(shape).join("\n"));
        text += &format!("    n{i} [label={label}, fillcolor=\"{fill}\", color=\"{stroke}\"];\n");
    }
    for (from, to) in &drawing.arrows {
        text += &format!("    n{from} -> n{to};\n");
    }
    text + "}\n"
}

/// The lines of a box.
fn lines(shape: &Shape) -> [String; 3] {
    let status = format!("{} {}", shape.state().mark(), shape.status());
    [shape.heading(), shape.kind.to_owned(), status]
}

/// The name of a state as Mermaid's classes may be called.
fn class(state: State) -> &'static str {
    match state {
        State::All => "cached",
        State::Some => "partly",
        State::None => "missing",
    }
}

/// Writes whatever Mermaid could take for more than a character as an entity.
fn entities(line: &str) -> String {
    let plain =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || " _-.,=/()[]+*%@".contains(c);
    line.chars()
        .map(|c| match c {
            c if c.is_control() => " ".to_owned(),
            c if plain(c) => c.to_string(),
            c => format!("#{};", u32::from(c)),
        })
        .collect()
}

/// Quotes a text for DOT, with `\n` for the ends of lines.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd() -> Drawing {
        let shape = Shape {
            stage: "say".to_owned(),
            node: Some("say[words=\"a\" & <b>\\n#1;]".to_owned()),
            axes: Vec::new(),
            kind: "exec",
            count: 1,
            cached: 0,
        };
        Drawing { name: "odd".to_owned(), boxes: vec![shape], arrows: Vec::new() }
    }

    #[test]
    fn names_are_escaped() {
        let text = mermaid(&odd());
        let label =
            "n0[\"say[words=#34;a#34; #38; #60;b#62;#92;n#35;1#59;]<br/>exec<br/>○ not cached\"]";
        assert!(text.contains(label), "{text}");
        let text = dot(&odd());
        let label = r#"[label="say[words=\"a\" & <b>\\n#1;]\nexec\n○ not cached","#;
        assert!(text.contains(label), "{text}");
    }
}
