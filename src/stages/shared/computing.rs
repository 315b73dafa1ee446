//! Where searches compute: side by side on threads, or as one on the GPU that the stage was given.

use candle_core::Device;
use rayon::prelude::*;

use super::methods::SearchMethod;
use super::network;
use super::problem::{Loss, failure};
use crate::engine::failure::{Failure, FailureKind};
use crate::landscape::device_network::DeviceNetwork;
use crate::landscape::error::LandscapeError;
use crate::landscape::gathered;
use crate::landscape::network::Network;
use crate::landscape::objective::Objective;
use crate::nn::device;

/// Most searches that compute as one: each has a thread.
const MOST: usize = 1024;

/// Numbers that searches that compute as one may keep in the machine's memory: 4 GiB.
const NUMBERS: usize = 1 << 29;

/// The share of a GPU's memory that searches take: the rest is for what else uses it, and for the allocator's gaps.
const SHARE: f64 = 0.6;

/// Where searches compute.
pub enum Computing<'a> {
    /// Each on a thread, by our own kernels.
    Threads(&'a dyn Objective),
    /// All as one, on a device.
    Device(DeviceNetwork),
}

impl<'a> Computing<'a> {
    /// Takes the GPU that the stage was given, if there is one, for the loss of a network and searches by products.
    pub fn new(loss: &'a Loss, method: &SearchMethod, count: usize) -> anyhow::Result<Self> {
        let Loss::Network(network) = loss else { return Ok(Self::Threads(loss.objective())) };
        if method.decomposes() {
            // Every search would hold a full Hessian at the same time, and decompose it on the CPU.
            return Ok(Self::Threads(network));
        }
        let device = network::device();
        if device.is_cpu() {
            return Ok(Self::Threads(network));
        }
        let most = NUMBERS / method.numbers(network.dim()).max(1);
        Self::on(&device, network, count.min(most.clamp(1, MOST)))
    }

    /// Lays a network on a device, with room for so many searches at once, or as many as fit.
    fn on(device: &Device, network: &Network, most: usize) -> anyhow::Result<Self> {
        // Of all memory, and not of what is free: how many compute as one is to be the same when the stage goes on.
        let fitting = device::memory(device).map(|(_, all)| {
            (all, DeviceNetwork::seats_within(network, (SHARE * all as f64) as u64))
        });
        if let Some((all, 0)) = fitting {
            let message = format!("not even one search fits the GPU, which has {} MiB", all >> 20);
            let hint = "leave `resources.gpu` out: searches run on the CPU as well";
            anyhow::bail!(Failure::new(FailureKind::Resource, message).hint(hint));
        }
        let seats = most.min(fitting.map_or(most, |(_, seats)| seats));
        tracing::info!("up to {seats} searches compute as one");
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
            Self::Device(network) => gathered::search_all(network, count, search),
        };
        found.map_err(failure)
    }
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
        assert!(matches!(
            Computing::new(&function, &SearchMethod::default(), 9).unwrap(),
            Computing::Threads(_)
        ));
    }
}
