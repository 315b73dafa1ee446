//! The machine's capacity in slots: which part of it each running node holds. A state machine without effects.

use super::resources::{Capacity, DEVICE, GpuRequest, Request};

/// What a running node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// CPU threads, at least 1.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs: the ordinal of each, and the thousandths of it.
    pub gpus: Vec<(usize, u32)>,
    /// Whether nothing runs beside it.
    pub alone: bool,
}

impl Slot {
    /// Whether it holds a part of a GPU of which others may hold the rest.
    pub fn shares_a_gpu(&self) -> bool {
        self.gpus.iter().any(|(_, share)| *share < DEVICE)
    }
}

/// What a request lacks while others hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// CPU threads, or everything.
    pub threads: bool,
    /// Memory.
    pub memory: bool,
    /// GPUs.
    pub gpus: bool,
}

impl Lack {
    /// Whether nothing is lacking.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What either lacks.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            threads: self.threads || other.threads,
            memory: self.memory || other.memory,
            gpus: self.gpus || other.gpus,
        }
    }

    /// Whether a request would take of what is lacking.
    pub fn concerns(self, request: &Request) -> bool {
        self.threads
            || self.memory && request.memory.is_some()
            || self.gpus && request.gpus != GpuRequest::None
    }
}

/// What of a capacity is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    capacity: Capacity,
    threads: usize,
    memory: u64,
    /// The free thousandths of each GPU, by ordinal.
    gpus: Vec<(usize, u32)>,
    /// How many slots are held.
    held: usize,
    /// Whether the one that is held is to be alone.
    alone: bool,
}

impl Slots {
    /// A whole capacity, all of it free.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            threads: capacity.threads.max(1),
            memory: capacity.memory.unwrap_or(u64::MAX),
            gpus: capacity.gpus.iter().map(|ordinal| (*ordinal, DEVICE)).collect(),
            held: 0,
            alone: false,
            capacity,
        }
    }

    /// The free threads; none while a node is to be alone.
    pub fn free_threads(&self) -> usize {
        if self.alone { 0 } else { self.threads }
    }

    /// What a request lacks now.
    pub fn lack(&self, request: &Request) -> Lack {
        if request.alone && self.held > 0 {
            return Lack { threads: true, memory: true, gpus: true };
        }
        let request = self.capacity.cut(request);
        Lack {
            threads: request.threads.unwrap_or(1) > self.free_threads(),
            memory: request.memory.unwrap_or(0) > self.memory,
            gpus: self.place(request.gpus).is_none(),
        }
    }

    /// Takes a slot, if what is asked for is free. `share` is the number of threads where the request names none.
    pub fn take(&mut self, request: &Request, share: usize) -> Option<Slot> {
        if !self.lack(request).is_none() {
            return None;
        }
        let request = self.capacity.cut(request);
        let gpus = self.place(request.gpus)?;
        for (ordinal, share) in &gpus {
            *self.gpu(*ordinal) -= share;
        }
        let whole = if request.alone { self.threads } else { share.clamp(1, self.threads) };
        let slot = Slot {
            threads: request.threads.unwrap_or(whole),
            memory: request.memory.unwrap_or(0),
            gpus,
            alone: request.alone,
        };
        self.threads -= slot.threads;
        self.memory -= slot.memory;
        self.held += 1;
        self.alone = slot.alone;
        Some(slot)
    }

    /// Gives a slot back.
    pub fn give_back(&mut self, slot: &Slot) {
        for (ordinal, share) in &slot.gpus {
            *self.gpu(*ordinal) += share;
        }
        self.threads += slot.threads;
        self.memory += slot.memory;
        self.held -= 1;
        self.alone = false;
    }

    /// Finds the devices for a request: a share goes where the least is left beside it, so that whole devices stay free.
    fn place(&self, request: GpuRequest) -> Option<Vec<(usize, u32)>> {
        match request {
            GpuRequest::None => Some(Vec::new()),
            GpuRequest::Share(share) => {
                let fits = self.gpus.iter().filter(|(_, free)| *free >= share);
                fits.min_by_key(|(_, free)| *free).map(|(ordinal, _)| vec![(*ordinal, share)])
            }
            GpuRequest::Whole(count) => {
                let free = self.gpus.iter().filter(|(_, free)| *free == DEVICE);
                let taken: Vec<_> = free.take(count).copied().collect();
                (taken.len() == count).then_some(taken)
            }
        }
    }

    fn gpu(&mut self, ordinal: usize) -> &mut u32 {
        let found = self.gpus.iter_mut().find(|(other, _)| *other == ordinal);
        &mut found.expect("slots hold devices of this capacity").1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Request = Request {
        threads: Some(1),
        memory: None,
        gpus: GpuRequest::None,
        time: None,
        alone: false,
    };

    fn slots(threads: usize, memory: u64, gpus: usize) -> Slots {
        Slots::new(Capacity { threads, memory: Some(memory), gpus: (0..gpus).collect() })
    }

    #[test]
    fn shares_pack_and_whole_devices_stay_free() {
        let mut slots = slots(9, 0, 3);
        let mut take = |gpus| slots.take(&Request { gpus, ..ONE }, 1).map(|slot| slot.gpus);
        assert_eq!(take(GpuRequest::Share(500)), Some(vec![(0, 500)]));
        assert_eq!(take(GpuRequest::Share(300)), Some(vec![(0, 300)]));
        assert_eq!(take(GpuRequest::Share(300)), Some(vec![(1, 300)]));
        assert_eq!(take(GpuRequest::Share(200)), Some(vec![(0, 200)]));
        assert_eq!(take(GpuRequest::Whole(2)), None);
        assert_eq!(take(GpuRequest::Whole(1)), Some(vec![(2, 1000)]));
        assert_eq!(take(GpuRequest::Share(701)), None);
        assert_eq!(take(GpuRequest::None), Some(Vec::new()));
    }

    #[test]
    fn ten_tenths_are_a_whole_device() {
        let mut slots = slots(20, 0, 1);
        let tenth = Request { gpus: GpuRequest::Share(100), ..ONE };
        let taken: Vec<Slot> = std::iter::from_fn(|| slots.take(&tenth, 1)).collect();
        assert_eq!(taken.len(), 10);
        for slot in &taken {
            slots.give_back(slot);
        }
        assert!(slots.take(&Request { gpus: GpuRequest::Whole(1), ..ONE }, 1).is_some());
    }

    #[test]
    fn one_that_is_to_be_alone_waits_for_all_and_holds_off_all() {
        let mut slots = slots(4, 10, 1);
        let alone = Request { threads: None, alone: true, ..ONE };
        let other = slots.take(&ONE, 1).unwrap();
        assert_eq!(slots.take(&alone, 1), None);
        slots.give_back(&other);
        let slot = slots.take(&alone, 1).unwrap();
        assert_eq!((slot.threads, slot.alone), (4, true));
        slots.give_back(&slot);
        // With fewer threads than there are, too.
        let slot = slots.take(&Request { threads: Some(1), ..alone }, 1).unwrap();
        assert_eq!((slot.threads, slots.free_threads()), (1, 0));
        assert_eq!(slots.take(&ONE, 1), None);
        slots.give_back(&slot);
        assert!(slots.take(&ONE, 1).is_some());
    }

    #[test]
    fn what_is_lacking_concerns_those_who_would_take_it() {
        let mut slots = slots(4, 10, 1);
        let memory = Request { memory: Some(8), ..ONE };
        slots.take(&memory, 1).unwrap();
        let lack = slots.lack(&memory);
        assert_eq!(lack, Lack { memory: true, ..Lack::default() });
        assert!(lack.concerns(&memory) && !lack.concerns(&ONE));
        let gpu = Request { gpus: GpuRequest::Share(1), ..ONE };
        assert!(!lack.concerns(&gpu) && Lack { gpus: true, ..lack }.concerns(&gpu));
        assert!(Lack { threads: true, ..Lack::default() }.concerns(&ONE));
    }

    proptest! {
        /// Whatever is taken and given back, no more is held than there is, and in the end all is free again.
        #[test]
        fn no_more_is_held_than_there_is(
            steps in prop::collection::vec(
                (any::<bool>(), prop::option::of(0usize..9), prop::option::of(0u64..20), 0u32..4000, 0usize..9),
                1..60),
            threads in 1usize..6, memory in 0u64..16, gpus in 0usize..3,
        ) {
            let mut slots = slots(threads, memory, gpus);
            let whole = slots.clone();
            let mut held: Vec<Slot> = Vec::new();
            for (give, threads_asked, memory_asked, thousandths, share) in steps {
                if give && !held.is_empty() {
                    slots.give_back(&held.remove(share % held.len()));
                } else {
                    let gpus = GpuRequest::of_thousandths(thousandths);
                    let (threads, memory) = (threads_asked, memory_asked);
                    let alone = share == 8;
                    let request = Request { threads, memory, gpus, time: None, alone };
                    let lack = slots.lack(&request);
                    let slot = slots.take(&request, share);
                    prop_assert_eq!(slot.is_some(), lack.is_none());
                    prop_assert!(slot.is_some() || !held.is_empty(), "an idle machine takes any");
                    held.extend(slot);
                }
                prop_assert!(held.iter().all(|slot| slot.threads > 0));
                prop_assert!(held.iter().map(|slot| slot.threads).sum::<usize>() <= threads);
                prop_assert!(held.iter().map(|slot| slot.memory).sum::<u64>() <= memory);
                prop_assert!(held.len() < 2 || held.iter().all(|slot| !slot.alone));
                for ordinal in 0..gpus {
                    let on = held.iter().flat_map(|slot| &slot.gpus).filter(|(o, _)| *o == ordinal);
                    prop_assert!(on.map(|(_, share)| share).sum::<u32>() <= DEVICE);
                }
            }
            for slot in &held {
                slots.give_back(slot);
            }
            prop_assert_eq!(slots, whole);
        }
    }
}
