//! What nodes ask for, and what a run has to give.

use std::time::Duration;

use super::graph::{Graph, NodeId};
use crate::spec::quantity::size_words;

/// What a node asks for while it runs; never part of its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// CPU threads; an equal share of the free ones where absent.
    pub threads: Option<usize>,
    /// Bytes of memory; what earlier runs took where absent.
    pub memory: Option<u64>,
    /// GPUs.
    pub gpus: GpuRequest,
    /// About how long it runs.
    pub time: Option<Duration>,
    /// Whether nothing may run beside it.
    pub alone: bool,
}

/// The GPUs that a node asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuRequest {
    /// None: it sees no GPU.
    #[default]
    None,
    /// Thousandths of one device, less than a whole one.
    Share(u32),
    /// Whole devices.
    Whole(usize),
}

/// The thousandths of a whole device.
pub const DEVICE: u32 = 1000;

impl GpuRequest {
    /// The request for so many thousandths of devices.
    pub fn of_thousandths(thousandths: u32) -> Self {
        match thousandths {
            0 => Self::None,
            share if share < DEVICE => Self::Share(share),
            whole => Self::Whole((whole / DEVICE) as usize),
        }
    }

    /// Says it in words, such as `2 GPUs`; none where it asks for none.
    pub fn words(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Share(share) => {
                Some(format!("{} of a GPU", f64::from(share) / f64::from(DEVICE)))
            }
            Self::Whole(1) => Some("a GPU".to_owned()),
            Self::Whole(count) => Some(format!("{count} GPUs")),
        }
    }
}

/// What a run has to give to its nodes, all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// CPU threads, at least 1.
    pub threads: usize,
    /// Bytes of memory; without bound where absent.
    pub memory: Option<u64>,
    /// The ordinals of the GPUs.
    pub gpus: Vec<usize>,
}

impl Capacity {
    /// So many threads, and neither a bound of memory nor GPUs.
    pub fn of_threads(threads: usize) -> Self {
        Self { threads: threads.max(1), memory: None, gpus: Vec::new() }
    }

    /// Cuts a request down to what there is at all.
    ///
    /// Fewer threads do no harm. Less memory and fewer GPUs do, so [`unmeetable`] is asked before anything runs.
    pub fn cut(&self, request: &Request) -> Request {
        let threads = request.threads.map(|threads| threads.clamp(1, self.threads.max(1)));
        let memory = request.memory.map(|memory| memory.min(self.memory.unwrap_or(u64::MAX)));
        let gpus = match request.gpus {
            GpuRequest::Share(_) if self.gpus.is_empty() => GpuRequest::None,
            GpuRequest::Whole(count) if count > self.gpus.len() => match self.gpus.len() {
                0 => GpuRequest::None,
                all => GpuRequest::Whole(all),
            },
            gpus => gpus,
        };
        Request { threads, memory, gpus, ..*request }
    }
}

/// What is known of a node from earlier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// How long it ran.
    pub seconds: Option<f64>,
    /// The most bytes of memory that it had.
    pub memory: Option<u64>,
}

impl Estimate {
    /// What a node is given: what it asks for; else what it took, and a quarter more. One that would not fit into the
    /// whole memory runs alone, because it is only a guess that it needs so much.
    pub fn complete(&self, request: &Request, capacity: &Capacity) -> Request {
        let Some(memory) = self.memory.filter(|_| request.memory.is_none()) else {
            return capacity.cut(request);
        };
        let memory = memory.saturating_add(memory / 4);
        let alone = request.alone || capacity.memory.is_some_and(|all| memory > all);
        capacity.cut(&Request { memory: Some(memory), alone, ..*request })
    }

    /// How many seconds a node is expected to take: what it took, else what is said of it.
    pub fn expected(&self, request: &Request) -> Option<f64> {
        let known = self.seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        known.or_else(|| request.time.map(|time| time.as_secs_f64()))
    }

    /// What a node counts when it is asked which path is the longest: the seconds expected, else one.
    pub fn weight(&self, request: &Request) -> f64 {
        self.expected(request).unwrap_or(1.0)
    }
}

/// What a node asks for beyond what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The node.
    pub node: NodeId,
    /// What is wrong, to follow the node's name.
    pub message: String,
    /// What it may ask for at most, as it would be written: `gpu=0`.
    pub most: String,
}

/// Finds the nodes that ask for more than there is.
///
/// More threads than there are is no lack: a node runs on fewer, to the same result.
pub fn unmeetable(graph: &Graph, capacity: &Capacity) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    for node in graph.ids() {
        let request = &graph.node(node).resources;
        let cut = capacity.cut(request);
        if let Some(asked) = request.gpus.words().filter(|_| cut.gpus != request.gpus) {
            let count = capacity.gpus.len();
            let message = match count {
                0 => format!("asks for {asked}, and there is none here"),
                _ => format!("asks for {asked}, more than there are here: {count}"),
            };
            unmet.push(Unmet { node, message, most: format!("gpu={count}") });
        }
        if let (Some(asked), Some(found)) = (request.memory, cut.memory)
            && asked > found
        {
            let (asked, all) = (size_words(asked), size_words(found));
            let message = format!("asks for {asked} of memory, more than there is here: {all}");
            unmet.push(Unmet { node, message, most: format!("memory={}MiB", found >> 20) });
        }
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toys;

    #[test]
    fn what_cannot_be_met_is_said() {
        let check = |request: Request, gpus: &[usize], expected: &[&str]| {
            let graph = toys::graph(&[(Vec::new(), request)]);
            let capacity = Capacity { threads: 2, memory: Some(16 << 30), gpus: gpus.to_vec() };
            let found: Vec<String> =
                unmeetable(&graph, &capacity).into_iter().map(|unmet| unmet.message).collect();
            assert_eq!(found, expected);
        };
        let gpus = |gpus| Request { gpus, ..Request::default() };
        check(Request { threads: Some(64), ..Request::default() }, &[], &[]);
        check(gpus(GpuRequest::Whole(1)), &[3], &[]);
        check(gpus(GpuRequest::Whole(2)), &[], &["asks for 2 GPUs, and there is none here"]);
        check(gpus(GpuRequest::Whole(2)), &[3], &["asks for 2 GPUs, more than there are here: 1"]);
        check(
            gpus(GpuRequest::Share(500)),
            &[],
            &["asks for 0.5 of a GPU, and there is none here"],
        );
        check(gpus(GpuRequest::Share(500)), &[0], &[]);
        let memory = Some(17 << 30);
        let request = Request { memory, ..gpus(GpuRequest::Whole(1)) };
        let lacks = "asks for 17 GiB of memory, more than there is here: 16 GiB";
        check(request, &[], &["asks for a GPU, and there is none here", lacks]);
    }

    #[test]
    fn estimates_fill_in_what_is_not_asked_for() {
        let capacity = Capacity { threads: 2, memory: Some(1000), gpus: Vec::new() };
        let check = |asked, known, memory, alone| {
            let estimate = Estimate { memory: known, seconds: None };
            let request = Request { memory: asked, ..Request::default() };
            let complete = estimate.complete(&request, &capacity);
            assert_eq!((complete.memory, complete.alone), (memory, alone));
        };
        check(None, None, None, false);
        check(None, Some(400), Some(500), false);
        check(None, Some(800), Some(1000), false);
        check(None, Some(900), Some(1000), true);
        check(Some(300), Some(900), Some(300), false);
        check(None, Some(u64::MAX), Some(1000), true);
        let time = Some(Duration::from_mins(1));
        let request = Request { time, ..Request::default() };
        let seconds = |seconds| Estimate { seconds, memory: None };
        for (known, weight) in
            [(None, 60.0), (Some(5.0), 5.0), (Some(f64::NAN), 60.0), (Some(-1.0), 60.0)]
        {
            assert_eq!(seconds(known).weight(&request), weight);
        }
        assert_eq!(Estimate::default().weight(&Request::default()), 1.0);
    }

    #[test]
    fn thousandths_are_shares_or_whole_devices() {
        for (thousandths, request) in [
            (0, GpuRequest::None),
            (1, GpuRequest::Share(1)),
            (999, GpuRequest::Share(999)),
            (1000, GpuRequest::Whole(1)),
            (3000, GpuRequest::Whole(3)),
        ] {
            assert_eq!(GpuRequest::of_thousandths(thousandths), request);
        }
    }
}
