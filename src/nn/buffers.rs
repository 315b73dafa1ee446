//! Memory that is used again: fresh pages of the system would cost up to a quarter of a step of training.

use super::kernels::simd::Element;

/// Buffers between uses.
#[derive(Debug)]
pub(super) struct Pool<T> {
    /// Each with the pass in which it was used last.
    free: Vec<(u64, Vec<T>)>,
    pass: u64,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { free: Vec::new(), pass: 0 }
    }
}

impl<T: Element> Pool<T> {
    /// Takes the smallest buffer that holds `length`, or makes one. What it holds is undefined.
    ///
    /// One that is much too large is left for what needs it: else the small would hold the memory of the large. For a
    /// new one as many others go, so that no more is held than was ever in use at a time.
    pub(super) fn take(&mut self, length: usize) -> Vec<T> {
        let fits = |capacity: usize| capacity >= length && capacity - length <= length / 4;
        let places = self.free.iter().map(|(_, buffer)| buffer.capacity()).enumerate();
        let best = places.filter(|(_, capacity)| fits(*capacity)).min_by_key(|(_, c)| *c);
        let mut buffer = match best {
            Some((at, _)) => self.free.swap_remove(at).1,
            None => {
                self.make_room(length);
                Vec::with_capacity(length)
            }
        };
        buffer.resize(length, T::from_f64(0.0));
        buffer
    }

    /// Gives free buffers back to the system, the large ones first, until they come to `length`.
    fn make_room(&mut self, length: usize) {
        let mut dropped = 0;
        self.free.sort_by_key(|(_, buffer)| std::cmp::Reverse(buffer.capacity()));
        self.free.retain(|(_, buffer)| {
            let goes = dropped < length;
            dropped += if goes { buffer.capacity() } else { 0 };
            !goes
        });
    }

    /// The same, filled with zeros.
    pub(super) fn take_zeroed(&mut self, length: usize) -> Vec<T> {
        let mut buffer = self.take(length);
        buffer.fill(T::from_f64(0.0));
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, buffer: Vec<T>) {
        self.free.push((self.pass, buffer));
    }

    /// Ends a pass, forward or back. Buffers that the last two steps have not used go back to the system: batches
    /// differ in size.
    pub(super) fn end_pass(&mut self) {
        self.free.retain(|(used, _)| used + 4 >= self.pass);
        self.pass += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_to_what_they_fit_and_go_when_unused() {
        let mut pool = Pool::<f32>::default();
        let [large, small] = [pool.take(1000), pool.take(10)];
        let places = [large.as_ptr(), small.as_ptr()];
        pool.give(large);
        pool.give(small);
        let again = [pool.take(900), pool.take(9)];
        assert_eq!([again[0].as_ptr(), again[1].as_ptr()], places);
        for buffer in again {
            pool.give(buffer);
        }
        for expected in [2, 2, 2, 2, 2, 0] {
            pool.end_pass();
            assert_eq!(pool.free.len(), expected);
        }
    }

    #[test]
    fn a_new_buffer_takes_the_place_of_others() {
        let mut pool = Pool::<f32>::default();
        let buffers = [40, 60, 80].map(|length| pool.take(length));
        for buffer in buffers {
            pool.give(buffer);
        }
        assert_eq!(pool.take(120).capacity(), 120);
        let mut left: Vec<usize> = pool.free.iter().map(|(_, b)| b.capacity()).collect();
        left.sort_unstable();
        assert_eq!(left, [40]);
    }
}
