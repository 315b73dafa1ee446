//! Where searches compute: side by side on threads, or as one on the GPU that the stage was given.

use candle_core::Device;
use rayon::prelude::*;

use super::network;
use super::problem::{Loss, failure};
use crate::engine::failure::{Failure, FailureKind, Shortage};
use crate::landscape::device_network::DeviceNetwork;
use crate::landscape::error::LandscapeError;
use crate::landscape::gathered;
use crate::landscape::network::Network;
use crate::landscape::objective::Objective;
use crate::nn::device;

/// Most searches that compute as one: each has a thread.
const MOST: usize = 1024;

/// Where searches compute.
pub enum Computing<'a> {
    /// Each on a thread, by our own kernels.
    Threads(&'a dyn Objective),
    /// All as one, on a device.
    Device(DeviceNetwork),
}

impl<'a> Computing<'a> {
    /// Takes the GPU that the stage was given, if there is one, for the loss of a network.
    pub fn new(loss: &'a Loss, count: usize) -> anyhow::Result<Self> {
        let Loss::Network(network) = loss else { return Ok(Self::Threads(loss.objective())) };
        let device = network::device();
        if device.is_cpu() {
            return Ok(Self::Threads(network));
        }
        Self::on(&device, network, count)
    }

    /// Lays a network on a device, with room for so many searches at once, or as many as fit.
    fn on(device: &Device, network: &Network, count: usize) -> anyhow::Result<Self> {
        let each = DeviceNetwork::bytes_per_seat(network);
        let fitting = device::memory(device).map(|(free, _)| (free, room(free, each)));
        if let Some((free, 0)) = fitting {
            let message = format!(
                "a search needs {} MiB on the GPU, of which {} MiB are free",
                each >> 20,
                free >> 20
            );
            let hint = "leave `resources.gpu` out: searches run on the CPU as well";
            let failure = Failure::new(FailureKind::Resource, message);
            anyhow::bail!(failure.for_lack_of(Shortage::Gpu).hint(hint));
        }
        let seats = count.min(MOST).min(fitting.map_or(MOST, |(_, seats)| seats));
        tracing::info!("{seats} of {count} searches compute as one");
        let network = DeviceNetwork::new(network, device, seats).map_err(failure)?;
        Ok(Self::Device(network))
    }

    /// Runs all searches, each with the loss as it sees it; returns what they found, in order.
    pub fn search_all<T: Send>(
        self,
        count: usize,
        search: impl Fn(usize, &dyn Objective) -> Result<T, LandscapeError> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        let found: Result<Vec<T>, LandscapeError> = match self {
            Self::Threads(loss) => (0..count).into_par_iter().map(|i| search(i, loss)).collect(),
            Self::Device(network) => gathered::search_all(network, count, search)
                .and_then(|found| found.into_iter().collect()),
        };
        found.map_err(failure)
    }
}

/// How many searches fit: a fifth is left for what the estimate does not know, such as the allocator's gaps.
fn room(free: u64, each: u64) -> usize {
    usize::try_from(free / 5 * 4 / each.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::data::{Data, Targets};
    use crate::landscape::network::Architecture;
    use crate::landscape::objective::Quartic;

    #[test]
    fn searches_find_the_same_on_threads_and_on_a_device() {
        let inputs: Vec<f64> = (0..60).map(|i| f64::from(i * i % 23) / 8.0 - 1.4).collect();
        let architecture =
            Architecture { sizes: vec![3, 2, 3], bias: true, ..Architecture::default() };
        let data = Data { samples: 20, inputs, targets: Targets::Inputs };
        let network = Network::new(architecture, data).unwrap();
        let search = |i: usize, loss: &dyn Objective| {
            let point = loss.evaluate(&vec![0.1 * (i + 1) as f64; loss.dim()]);
            if i == 5 {
                return Err(LandscapeError::Cancelled { step: i });
            }
            Ok((i, point.loss()))
        };
        let on_device = || Computing::on(&Device::Cpu, &network, 4).unwrap();
        let found = on_device().search_all(5, search).unwrap();
        let expected = Computing::Threads(&network).search_all(5, search).unwrap();
        for ((i, found), (j, expected)) in found.into_iter().zip(expected) {
            assert!(i == j && (found / expected - 1.0).abs() < 1e-14, "{i} {j} {found} {expected}");
        }
        for computing in [on_device(), Computing::Threads(&network)] {
            let error = computing.search_all(6, search).unwrap_err();
            assert_eq!(Failure::from_error(error).kind, FailureKind::Interrupted);
        }
        let function = Loss::Function(Box::new(Quartic));
        assert!(matches!(Computing::new(&function, 9).unwrap(), Computing::Threads(_)));
    }

    #[test]
    fn a_fifth_of_a_devices_memory_is_left() {
        assert_eq!([room(1000, 100), room(1000, 801), room(1000, 0)], [8, 0, 800]);
    }
}
