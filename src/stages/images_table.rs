//! `images.table`: labeled images from a table, one row an image.

use std::collections::BTreeMap;

use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::sheet::{self, Header};
use crate::artifacts::dataset::Dataset;
use crate::artifacts::images::Images;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{DataPath, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::rng::Streams;

/// What columns hold.
const NUMBERS: &str =
    "pixels and labels are finite numbers; set `header` if the first line names the columns";

/// Reads labeled images from a table: one row an image, one column a pixel and one the label.
///
/// The file is Parquet, or comma-separated values, gzipped or not: its content tells which. A share of each class is
/// set aside for testing, drawn by the seed.
///
/// Source: none; the format is anybody's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesTable {
    /// The table.
    path: DataPath,
    /// Rows of an image, in pixels.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unit" = "pixels"))]
    height: usize,
    /// Columns of an image, in pixels.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unit" = "pixels"))]
    width: usize,
    /// Channels of an image; the table holds one after the other.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    channels: usize,
    /// Where the label stands.
    #[serde(default)]
    label: LabelColumn,
    /// Whether the first line of a CSV file names the columns.
    #[serde(default)]
    header: bool,
    /// The value that becomes 1; 0 stays 0.
    #[serde(default = "white")]
    #[schemars(range(min = 0.0))]
    white: f64,
    /// Share of each class that is kept for testing.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    test_fraction: f64,
    /// At most this many images of each class, drawn by the seed; all where absent.
    #[serde(default)]
    per_class: Option<usize>,
    /// Seed of the draw.
    #[serde(default)]
    seed: Seed,
}

/// Where the label stands in a row.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LabelColumn {
    /// Before the pixels.
    First,
    /// After the pixels.
    #[default]
    Last,
}

fn one() -> usize {
    1
}
fn white() -> f64 {
    255.0
}
fn fifth() -> f64 {
    0.2
}

impl Stage for ImagesTable {
    const KIND: &'static str = "images.table";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.digits]
        kind = "images.table"
        path = "data/digits.csv"
        height = 28
        width = 28
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("height", self.height > 0, "must be at least 1"),
            ("width", self.width > 0, "must be at least 1"),
            ("channels", self.channels > 0, "must be at least 1"),
            ("white", self.white > 0.0, "must be above 0"),
            ("test_fraction", (0.0..=1.0).contains(&self.test_fraction), "must be from 0 to 1"),
            ("per_class", self.per_class.is_none_or(|n| n > 0), "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Dataset::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let header = if self.header { Header::Names } else { Header::None };
        let frame = sheet::read(&self.path, header)?;
        cx.progress(0.5, || "read".into());
        let images = self.images(&frame)?;
        let (train, test) = self.split(&images.labels, &self.seed.streams(Self::KIND));
        cx.metric("train", train.len() as f64)?;
        cx.metric("test", test.len() as f64)?;
        cx.save(&Dataset { train: images.select(&train), test: images.select(&test) })
    }
}

impl ImagesTable {
    fn images(&self, frame: &DataFrame) -> anyhow::Result<Images> {
        let size = self.channels * self.height * self.width;
        let found = frame.width();
        anyhow::ensure!(
            found == size + 1,
            Failure::data(format!(
                "{} has {found} columns; {} x {} x {} pixels and a label need {}",
                self.path.written(),
                self.channels,
                self.height,
                self.width,
                size + 1
            ))
            .hint("check `height`, `width` and `channels`")
        );
        let (label, first) = match self.label {
            LabelColumn::First => (0, 1),
            LabelColumn::Last => (size, 0),
        };
        let count = frame.height();
        let mut pixels = vec![0.0f32; count * size];
        for (at, column) in frame.columns()[first..first + size].iter().enumerate() {
            for (row, value) in sheet::numbers(column, NUMBERS)?.into_iter().enumerate() {
                pixels[row * size + at] = (value / self.white) as f32;
            }
        }
        let labels = sheet::numbers(&frame.columns()[label], NUMBERS)?.into_iter().map(class);
        Ok(Images {
            count,
            channels: self.channels,
            height: self.height,
            width: self.width,
            pixels,
            labels: labels.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Draws the rows of both parts, class by class, and puts each part in random order.
    fn split(&self, labels: &[u32], streams: &Streams) -> (Vec<usize>, Vec<usize>) {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        let mut rows_of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, label) in labels.iter().enumerate() {
            rows_of.entry(*label).or_default().push(row);
        }
        for (class, mut rows) in rows_of {
            streams.indexed("split", u64::from(class)).shuffle(&mut rows);
            rows.truncate(self.per_class.unwrap_or(usize::MAX));
            let tested = (rows.len() as f64 * self.test_fraction).round() as usize;
            train.extend(rows.split_off(tested));
            test.extend(rows);
        }
        let mut order = streams.stream("order");
        order.shuffle(&mut train);
        order.shuffle(&mut test);
        (train, test)
    }
}

fn class(value: f64) -> anyhow::Result<u32> {
    let whole = value.fract() == 0.0 && (0.0..1e6).contains(&value);
    anyhow::ensure!(
        whole,
        Failure::data(format!("{value} is no label: labels are whole numbers from 0 to 999999"))
            .hint("check `label`: is it the first or the last column?")
    );
    Ok(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::failure::FailureKind;
    use crate::stages::shared::bench::Bench;
    use crate::store::files;

    #[test]
    fn rows_become_images_and_classes_are_split_evenly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let rows: Vec<String> = (0..20).map(|i| format!("{},0,255,51,{}\n", i, i % 2)).collect();
        files::write(&path, rows.concat().as_bytes()).unwrap();
        let text =
            format!("path = '{}'\nheight = 2\nwidth = 2\ntest_fraction = 0.3", path.display());
        let data: Dataset = Bench::new().run::<ImagesTable>(&text).unwrap().main();
        assert_eq!((data.train.count, data.test.count, data.classes()), (14, 6, 2));
        assert_eq!(data.test.labels.iter().filter(|l| **l == 1).count(), 3);
        assert_eq!(data.train.image(0)[1..], [0.0, 1.0, 0.2]);
        let parity = |images: &Images, i: usize| (images.image(i)[0] * 255.0).round() as u32 % 2;
        assert!((0..14).all(|i| parity(&data.train, i) == data.train.labels[i]));
        let wrong = text.replace("width = 2", "width = 3");
        let error = Bench::new().run::<ImagesTable>(&wrong).unwrap_err().to_string();
        assert!(error.contains("has 5 columns"), "{error}");
    }
    /// Reads a CSV file of one pixel and a label a row.
    fn read(name: &str, bytes: &[u8]) -> anyhow::Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        files::write(&path, bytes).unwrap();
        let text = format!(
            "path = '{}'\nheight = 1\nwidth = 1\nwhite = 1\ntest_fraction = 0",
            path.display()
        );
        Bench::new().run::<ImagesTable>(&text).map(|results| results.main())
    }

    #[test]
    fn decimals_far_down_are_read() {
        let row =
            |i: usize| if i < 140 { "1,0\n".to_owned() } else { format!("0.25,{}\n", 1 + i % 2) };
        let rows: Vec<String> = (0..150).map(row).collect();
        let data = read("t.csv", rows.concat().as_bytes()).unwrap();
        assert_eq!((data.train.count, data.test.count, data.classes()), (150, 0, 3));
        for i in 0..150 {
            let expected = if data.train.labels[i] == 0 { 1.0 } else { 0.25 };
            assert_eq!(data.train.pixels[i], expected);
        }
    }

    #[test]
    fn labels_far_apart_cost_no_more() {
        let data = read("t.csv", b"0.5,999999\n1,0\n").unwrap();
        assert_eq!(data.classes(), 1_000_000);
    }

    #[test]
    fn files_that_cannot_be_read_are_failures_of_the_data() {
        let check = |name: &str, bytes: &[u8], message: &str| {
            let failure = Failure::from_error(read(name, bytes).unwrap_err());
            assert_eq!(failure.kind, FailureKind::Data, "{failure}");
            assert!(failure.message.contains(message) && failure.hint.is_some(), "{failure:?}");
        };
        check("t", b"PAR1 and no more", "t cannot be read");
        check("t", &[0x1f, 0x8b, 8, 0], "t cannot be read");
        check("t.csv", b"", "t.csv cannot be read");
        check(
            "t.csv",
            b"1,0\n0.5,x\n",
            "column `column_2` holds something that is no number in row 2",
        );
        check(
            "t.csv",
            b"1,0\n,1\n",
            "column `column_1` holds something that is no number in row 2",
        );
        check("t.csv", b"1,0.5\n", "0.5 is no label");
    }
}
