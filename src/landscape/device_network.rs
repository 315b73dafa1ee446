//! Searches' points on a device: where each is, and what is computed for all at once.
//!
//! Batches have a fixed size, empty places included, so that no point's last bits depend on the others'.

use candle_core::{DType, Device, Result, Tensor};

use crate::landscape::{
    device_model::{Model, Parameters, State},
    error::LandscapeError,
    gathered::Batch,
    network::Network,
    objective::{Matrix, Objective as _},
    vector,
};

/// How many points are evaluated at once, or fewer where there are fewer seats.
const TOGETHER: usize = 32;

/// A network's loss on a device, at one point a seat.
pub struct DeviceNetwork {
    model: Model,
    /// Where the seats are.
    seated: State,
    seats: usize,
}

impl DeviceNetwork {
    /// Lays a network's samples on a device, with room for at least one point.
    pub fn new(
        network: &Network,
        device: &Device,
        seats: usize,
    ) -> std::result::Result<Self, LandscapeError> {
        Self::on(network, device, seats.max(1)).map_err(failed)
    }

    fn on(network: &Network, device: &Device, seats: usize) -> Result<Self> {
        let model = Model::new(network, device)?;
        let (one, _) = model.sweep(model.parameters(&[None])?)?;
        let seated = one.map(|tensor| {
            let mut dims = tensor.dims().to_vec();
            dims[0] = seats;
            Tensor::zeros(dims, DType::F64, device)
        })?;
        Ok(Self { model, seated, seats })
    }

    /// Returns for how many points at once so many bytes of a device suffice; 0 where not even for one.
    pub fn seats_within(network: &Network, bytes: u64) -> usize {
        let sizes = &network.architecture().sizes;
        let samples = network.samples();
        let (features, outputs) = (sizes[0], sizes[sizes.len() - 1]);
        let hidden: usize = sizes[1..sizes.len() - 1].iter().sum();
        let widest = sizes[1..].iter().max().copied().unwrap_or(0);
        let numbers = (bytes / 8) as usize;
        // Value, error, slope and curvature of each hidden unit, error and softmax of each output, at each sample.
        let state = (4 * hidden + 2 * outputs) * samples + 4 * network.dim();
        // Of a product, two tangents of each hidden unit and what is in passing; of a sweep, as much at most.
        let passing = (2 * hidden + 8 * widest) * samples + 8 * network.dim();
        let data = (2 * features + outputs) * samples;
        // An evaluation holds states of its own beside those of the seats.
        let needed = |seats: usize| data + seats * (state + passing) + seats.min(TOGETHER) * state;
        let per_seat = (state + passing).max(1);
        let most = numbers.saturating_sub(data) / per_seat;
        (most.saturating_sub(TOGETHER)..=most)
            .rev()
            .find(|seats| needed(*seats) <= numbers)
            .unwrap_or(0)
    }

    /// The points of a batch of at most [`TOGETHER`], with empty places up to its fixed size.
    fn batches<'t>(
        &self,
        thetas: &'t [&'t [f64]],
    ) -> impl Iterator<Item = Result<Parameters>> + use<'_, 't> {
        let size = TOGETHER.min(self.seats);
        thetas.chunks(size).map(move |thetas| {
            let mut all: Vec<Option<&[f64]>> = thetas.iter().map(|theta| Some(*theta)).collect();
            all.resize(size, None);
            self.model.parameters(&all)
        })
    }

    fn evaluate_all(&self, thetas: &[&[f64]]) -> Result<Vec<(f64, Vec<f64>)>> {
        let mut found = Vec::with_capacity(thetas.len());
        for parameters in self.batches(thetas) {
            let (state, costs) = self.model.sweep(parameters?)?;
            let gradients = self.model.gradients(&state)?;
            found.extend(costs.to_vec1::<f64>()?.into_iter().zip(gradients));
        }
        found.truncate(thetas.len());
        let l2 = self.model.architecture.l2 / self.model.dim as f64;
        for ((loss, gradient), theta) in found.iter_mut().zip(thetas) {
            *loss += l2 * vector::norm_squared(theta);
            vector::add_scaled(2.0 * l2, theta, gradient);
        }
        Ok(found)
    }

    fn place_all(&self, seats: &[(usize, &[f64])]) -> Result<()> {
        let thetas: Vec<&[f64]> = seats.iter().map(|(_, theta)| *theta).collect();
        let size = TOGETHER.min(self.seats);
        for (parameters, seats) in self.batches(&thetas).zip(seats.chunks(size)) {
            let (state, _) = self.model.sweep(parameters?)?;
            for (row, (seat, _)) in seats.iter().enumerate() {
                for (all, found) in self.seated.tensors().into_iter().zip(state.tensors()) {
                    all.slice_set(&found.narrow(0, row, 1)?.contiguous()?, 0, *seat)?;
                }
            }
        }
        Ok(())
    }

    fn multiply_all(&self, matrix: Matrix, seats: &[(usize, &[f64])]) -> Result<Vec<Vec<f64>>> {
        let mut vectors = vec![None; self.seats];
        for (seat, v) in seats {
            vectors[*seat] = Some(*v);
        }
        let mut products =
            self.model.products(&self.seated, &self.model.parameters(&vectors)?, matrix)?;
        let l2 = 2.0 * self.model.architecture.l2 / self.model.dim as f64;
        let of_seat = |(seat, v): &(usize, &[f64])| {
            let mut product = std::mem::take(&mut products[*seat]);
            vector::add_scaled(l2, v, &mut product);
            product
        };
        Ok(seats.iter().map(of_seat).collect())
    }
}

impl Batch for DeviceNetwork {
    fn dim(&self) -> usize {
        self.model.dim
    }

    fn seats(&self) -> usize {
        self.seats
    }

    fn evaluate(
        &mut self,
        thetas: &[&[f64]],
    ) -> std::result::Result<Vec<(f64, Vec<f64>)>, LandscapeError> {
        self.evaluate_all(thetas).map_err(failed)
    }

    fn place(&mut self, seats: &[(usize, &[f64])]) -> std::result::Result<(), LandscapeError> {
        self.place_all(seats).map_err(failed)
    }

    fn multiply(
        &mut self,
        matrix: Matrix,
        seats: &[(usize, &[f64])],
    ) -> std::result::Result<Vec<Vec<f64>>, LandscapeError> {
        self.multiply_all(matrix, seats).map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` takes")]
fn failed(error: candle_core::Error) -> LandscapeError {
    LandscapeError::Device(error.to_string())
}
