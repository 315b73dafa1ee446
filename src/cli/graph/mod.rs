//! `wavecrest graph`: the graph as Mermaid, DOT or SVG, one box a stage or one a node, with what is cached.

pub mod drawing;
pub mod layout;
pub mod svg;
pub mod text;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print, say};
use crate::engine::status::survey;
use crate::store::files;
use crate::ui::words;
use drawing::{Drawing, Grain};

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Language of the output [default: what the name of the output file ends in, else mermaid]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw every instance instead of one box a stage
    #[arg(long)]
    expand: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
    Svg,
}

/// The layout of so many boxes takes seconds, of more of them minutes, and nobody can read the picture.
const MOST_BOXES: usize = 2000;
/// So it is with arrows.
const MOST_ARROWS: usize = 4000;

/// Draws the graph of an experiment.
pub fn graph(args: &GraphArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let format = args.format.or_else(|| Format::of(args.output.as_deref()?));
    let grain = if args.expand { Grain::Instances } else { Grain::Stages };
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let drawing = Drawing::of(&plan, &survey(&plan.graph, &workspace.store)?, grain);
    let text = match format.unwrap_or(Format::Mermaid) {
        Format::Mermaid => text::mermaid(&drawing),
        Format::Dot => text::dot(&drawing),
        Format::Svg => {
            refuse_what_is_too_large(&drawing, grain)?;
            svg::svg(&drawing)
        }
    };
    let Some(path) = &args.output else { return print(&text) };
    write(path, &text)?;
    let boxes = words::count(drawing.boxes.len(), grain.noun());
    say(&format!("{boxes} drawn in {}", path.display()));
    Ok(())
}

/// Writes a file, but puts none in the place of a folder, a device or a link.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    if path.exists() && !files::is_plain(path) {
        let message = format!("{} is there and is no plain file", path.display());
        let hint = "without `-o` the graph goes to standard output";
        return Err(CliError::Usage(format!(
            "{message}, so no picture takes its place\n  hint: {hint}"
        )));
    }
    Ok(files::write_atomic(&files::absolute(path)?, text.as_bytes())?)
}

impl Format {
    /// The language that files of such a name are written in.
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Self::Svg),
            "dot" | "gv" => Some(Self::Dot),
            "mmd" | "mermaid" => Some(Self::Mermaid),
            _ => None,
        }
    }
}

fn refuse_what_is_too_large(drawing: &Drawing, grain: Grain) -> Result<(), CliError> {
    let (boxes, arrows) = (drawing.boxes.len(), drawing.arrows.len());
    if boxes <= MOST_BOXES && arrows <= MOST_ARROWS {
        return Ok(());
    }
    let instead = match grain {
        Grain::Instances => "leave out `--expand` for one box a stage",
        Grain::Stages => "`--format dot` writes any number, for other programs to lay out",
    };
    Err(CliError::Usage(format!(
        "{} and {} are too many for a picture, which holds up to {MOST_BOXES} and {MOST_ARROWS}\n  hint: {instead}",
        words::count(boxes, grain.noun()),
        words::count(arrows, "arrow"),
    )))
}
