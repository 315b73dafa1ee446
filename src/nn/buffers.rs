//! Memory that is used again: fresh pages of the system would cost up to a third of a step of training.

use super::kernels::simd::Element;

/// Buffers between uses.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Vec<Vec<T>>,
}

impl<T: Element> Pool<T> {
    /// Takes the smallest buffer that holds `length`, or makes one. What it holds is undefined.
    pub(super) fn take(&mut self, length: usize) -> Vec<T> {
        let fits = |(_, buffer): &(usize, &Vec<T>)| buffer.capacity() >= length;
        let best =
            self.free.iter().enumerate().filter(fits).min_by_key(|(_, buffer)| buffer.capacity());
        let mut buffer = match best.map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            // One that is too small would stay so: it goes, that memory does not grow with every new size.
            None => {
                let largest = (0..self.free.len()).max_by_key(|&at| self.free[at].capacity());
                let mut buffer = largest.map_or_else(Vec::new, |at| self.free.swap_remove(at));
                buffer.clear();
                buffer.reserve_exact(length);
                buffer
            }
        };
        buffer.resize(length, T::from_f64(0.0));
        buffer
    }

    pub(super) fn take_zeroed(&mut self, length: usize) -> Vec<T> {
        let mut buffer = self.take(length);
        buffer.fill(T::from_f64(0.0));
        buffer
    }

    pub(super) fn give(&mut self, buffer: Vec<T>) {
        self.free.push(buffer);
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { free: Vec::new() }
    }
}
