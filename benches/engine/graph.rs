//! The graph that is run: layers of small programs, written for both tools.

use std::collections::BTreeMap;

/// Layers of equally many nodes; a node of a later layer reads two of the layer before.
#[derive(Clone)]
pub(crate) struct Graph {
    layers: usize,
    width: usize,
    /// How often the parameter of a node was changed, by layer and place.
    changes: BTreeMap<(usize, usize), usize>,
}

impl Graph {
    /// Ten layers, so that a change at the root reaches 55 nodes at any width of at least ten.
    pub(crate) fn of_ten_layers(width: usize) -> Self {
        Self { layers: 10, width, changes: BTreeMap::new() }
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.layers * self.width
    }

    /// Changes the parameter of the first node of a layer to what it never was, and says how many nodes that reaches.
    pub(crate) fn change(&mut self, end: End) -> usize {
        let layer = match end {
            End::Leaf => self.layers - 1,
            End::Root => 0,
        };
        *self.changes.entry((layer, 0)).or_default() += 1;
        let below = self.layers - layer;
        below * (below + 1) / 2
    }

    /// What tells a node from all others: no two of them are one computation.
    fn parameter(&self, layer: usize, place: usize) -> String {
        let change = self.changes.get(&(layer, place)).copied().unwrap_or(0);
        format!("{layer}-{place}-{change}")
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let width = self.width;
        (0..self.layers).flat_map(move |layer| (0..width).map(move |place| (layer, place)))
    }

    /// The two nodes that a node of a later layer reads.
    fn read_by(&self, layer: usize, place: usize) -> Option<[String; 2]> {
        let above = layer.checked_sub(1)?;
        Some([place, (place + 1) % self.width].map(|place| name(above, place)))
    }

    /// The experiment: every node a stage written out, one thread each as for the other tool.
    pub(crate) fn experiment(&self) -> String {
        let mut text = "[experiment]\nname = \"bench\"\n".to_owned();
        for (layer, place) in self.nodes() {
            let parameter = self.parameter(layer, place);
            text += &format!("\n[stages.{}]\nkind = \"exec\"\n", name(layer, place));
            text += &match self.read_by(layer, place) {
                None => format!(
                    "command = [\"sh\", \"-c\", 'echo {parameter} > \"$1\"', \"sh\", \"{{outputs.o}}\"]\n"
                ),
                Some([a, b]) => format!(
                    "command = [\"sh\", \"-c\", 'cksum \"$1\" \"$2\" > \"$3\"; echo {parameter} >> \"$3\"', \
                     \"sh\", \"{{inputs.a}}\", \"{{inputs.b}}\", \"{{outputs.o}}\"]\n\
                     inputs = {{ a = \"@{a}\", b = \"@{b}\" }}\n"
                ),
            };
            text += "outputs = { o = \"file\" }\nresources = { cpu = 1 }\n";
        }
        text
    }

    /// The same commands as a `build.ninja`.
    pub(crate) fn ninja(&self) -> String {
        let mut text = "rule root\n  command = echo $parameter > $out\n\
                        rule inner\n  command = cksum $in > $out; echo $parameter >> $out\n"
            .to_owned();
        for (layer, place) in self.nodes() {
            let parameter = self.parameter(layer, place);
            let reads = match self.read_by(layer, place) {
                None => "root".to_owned(),
                Some([a, b]) => format!("inner out/{a} out/{b}"),
            };
            let node = name(layer, place);
            text += &format!("build out/{node}: {reads}\n  parameter = {parameter}\n");
        }
        text
    }
}

/// Where a graph is changed.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// A node that nothing reads.
    Leaf,
    /// A node that reads nothing.
    Root,
}

fn name(layer: usize, place: usize) -> String {
    format!("n{layer}_{place}")
}
