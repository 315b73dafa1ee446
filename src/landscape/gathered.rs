//! Many searches that compute as one: what each asks of its loss waits until all have asked, and is done together.
//!
//! Searches ask for one thing at a time, which leaves a GPU idle; a [`Batch`] computes for hundreds of points at once.
//! So each search has a thread and a [`Seat`], an objective like any other. A request puts its thread to sleep, and the
//! last of those that search carries out the requests of all. A batch computes for a seat what it would compute were
//! the others empty, so a search takes the same course whichever go on beside it.

use std::{
    mem, panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use crate::landscape::{
    error::LandscapeError,
    objective::{Matrix, Objective, Point},
};

/// A loss at many points at once, one a seat.
pub trait Batch: Send {
    /// Returns the number of parameters.
    fn dim(&self) -> usize;

    /// Returns how many points it holds at once, at least 1.
    fn seats(&self) -> usize;

    /// Returns loss and gradient at each of some points.
    fn evaluate(&mut self, thetas: &[&[f64]]) -> Result<Vec<(f64, Vec<f64>)>, LandscapeError>;

    /// Moves some seats to points.
    fn place(&mut self, seats: &[(usize, &[f64])]) -> Result<(), LandscapeError>;

    /// Returns the products of some seats' matrices, each at its seat's point, with a vector a seat.
    fn multiply(
        &mut self,
        matrix: Matrix,
        seats: &[(usize, &[f64])],
    ) -> Result<Vec<Vec<f64>>, LandscapeError>;
}

/// Runs `count` searches, as many at once as the batch has seats; returns their results in order.
///
/// After a search has failed none begins, and the first failure is returned. An error of the batch ends every search
/// where it stands, by unwinding its thread, and is returned. A search must ask from its own thread: a pool's threads
/// would sleep for seats that wait for the pool.
pub fn search_all<T: Send>(
    batch: impl Batch,
    count: usize,
    search: impl Fn(usize, &dyn Objective) -> Result<T, LandscapeError> + Sync,
) -> Result<Vec<T>, LandscapeError> {
    let seats = batch.seats().min(count);
    let gathering = Gathering {
        dim: batch.dim(),
        round: Mutex::new(Round {
            active: seats,
            evaluations: Vec::new(),
            products: Vec::new(),
            evaluated: 0,
            placed: vec![0; seats],
            error: None,
            batch,
        }),
    };
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<T, LandscapeError>>>> =
        Mutex::new((0..count).map(|_| None).collect());
    let take_turns = |seat: &dyn Objective| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            let found = search(i, seat);
            if found.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            results.lock().expect(NO_PANIC)[i] = Some(found);
        }
    };
    seat_all(&gathering, seats, &take_turns);
    let round = gathering.round.into_inner().expect(NO_PANIC);
    if let Some(error) = round.error {
        return Err(error);
    }
    // Those that never began come behind a failure, or beside one that was begun after them.
    let found: Vec<_> = results.into_inner().expect(NO_PANIC).into_iter().flatten().collect();
    let found: Vec<T> = found.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(found.len(), count, "without a failure every search has a result");
    Ok(found)
}

/// Has a thread for each seat take its turns, and waits for all; seats that no thread can be had for are left empty.
fn seat_all<B: Batch>(
    gathering: &Gathering<B>,
    seats: usize,
    take_turns: &(impl Fn(&dyn Objective) + Sync),
) {
    thread::scope(|scope| {
        let all = (0..seats).map(|number| Seat { gathering, number, asking: Mutex::new(()) });
        // All are there before the first search begins; those without a thread leave as the list is dropped.
        let all: Vec<_> = all.collect();
        let mut threads = Vec::with_capacity(seats);
        for seat in all {
            let turns = move || panic::catch_unwind(panic::AssertUnwindSafe(|| take_turns(&seat)));
            match thread::Builder::new().spawn_scoped(scope, turns) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => {
                    let error = format!("no thread could be had for a search: {error}");
                    gathering.round.lock().expect(NO_PANIC).error =
                        Some(LandscapeError::Device(error));
                    break;
                }
                Err(_) => break,
            }
        }
        for thread in threads {
            // A search whose batch has failed leaves by unwinding; any other panic goes on.
            if let Err(payload) = thread.join().and_then(|left| left)
                && !payload.is::<Broken>()
            {
                panic::resume_unwind(payload);
            }
        }
    });
}

const NO_PANIC: &str = "no holder of this lock panics";

/// With what a search is left whose batch has failed.
struct Broken;

/// Searches that compute as one.
struct Gathering<B> {
    dim: usize,
    round: Mutex<Round<B>>,
}

/// What the searches have asked for since all were last answered.
struct Round<B> {
    /// Seats whose searches go on: when as many wait, it is time.
    active: usize,
    evaluations: Vec<Evaluation>,
    products: Vec<Product>,
    /// How many points were evaluated: each has a number, from 1.
    evaluated: u64,
    /// Which point each seat is at; 0 at none.
    placed: Vec<u64>,
    error: Option<LandscapeError>,
    batch: B,
}

/// A seat that asks for a point's number, loss and gradient.
struct Evaluation {
    seat: usize,
    theta: Arc<[f64]>,
    answer: Sender<(u64, f64, Vec<f64>)>,
}

/// A seat that asks for a product of a matrix at a point.
struct Product {
    seat: usize,
    matrix: Matrix,
    point: u64,
    theta: Arc<[f64]>,
    v: Vec<f64>,
    answer: Sender<Vec<f64>>,
}

impl<B: Batch> Round<B> {
    /// Answers all once every search waits.
    fn advance(&mut self) {
        let waiting = self.evaluations.len() + self.products.len();
        if waiting == 0 || waiting < self.active {
            return;
        }
        let mut evaluations = mem::take(&mut self.evaluations);
        let mut products = mem::take(&mut self.products);
        evaluations.sort_by_key(|asked| asked.seat);
        products.sort_by_key(|asked| asked.seat);
        if self.error.is_none() {
            let answered = self.evaluate(&evaluations).and_then(|()| self.multiply(&products));
            self.error = answered.err();
        }
        // Whoever has no answer by now finds its channel closed.
    }

    fn evaluate(&mut self, asked: &[Evaluation]) -> Result<(), LandscapeError> {
        if asked.is_empty() {
            return Ok(());
        }
        let thetas: Vec<&[f64]> = asked.iter().map(|asked| &*asked.theta).collect();
        let found = self.batch.evaluate(&thetas)?;
        for (asked, (loss, gradient)) in asked.iter().zip(found) {
            self.evaluated += 1;
            asked.answer.send((self.evaluated, loss, gradient)).expect(WAITS);
        }
        Ok(())
    }

    fn multiply(&mut self, asked: &[Product]) -> Result<(), LandscapeError> {
        let mut moved: Vec<(usize, &[f64])> = Vec::new();
        for Product { seat, point, theta, .. } in asked {
            if mem::replace(&mut self.placed[*seat], *point) != *point {
                moved.push((*seat, theta));
            }
        }
        if !moved.is_empty() {
            self.batch.place(&moved)?;
        }
        for matrix in [Matrix::Hessian, Matrix::GaussNewton] {
            let asked: Vec<&Product> =
                asked.iter().filter(|asked| asked.matrix == matrix).collect();
            if asked.is_empty() {
                continue;
            }
            let vectors: Vec<(usize, &[f64])> =
                asked.iter().map(|asked| (asked.seat, asked.v.as_slice())).collect();
            for (asked, product) in asked.iter().zip(self.batch.multiply(matrix, &vectors)?) {
                asked.answer.send(product).expect(WAITS);
            }
        }
        Ok(())
    }
}

const WAITS: &str = "who asks waits for the answer";

/// The place of one search, and the loss as it sees it.
struct Seat<'a, B: Batch> {
    gathering: &'a Gathering<B>,
    number: usize,
    /// Held by the thread that asks: a seat asks for one thing at a time.
    asking: Mutex<()>,
}

impl<B: Batch> Seat<'_, B> {
    /// Puts a request into the round, and waits for the others and for the answer.
    fn ask<A>(&self, put: impl FnOnce(&mut Round<B>, Sender<A>)) -> A {
        let turn = self.asking.lock().expect(NO_PANIC);
        let (answer, answered) = channel();
        let mut round = self.gathering.round.lock().expect(NO_PANIC);
        put(&mut round, answer);
        round.advance();
        drop(round);
        let answer = answered.recv();
        drop(turn);
        answer.unwrap_or_else(|_| panic::resume_unwind(Box::new(Broken)))
    }
}

impl<B: Batch> Drop for Seat<'_, B> {
    fn drop(&mut self) {
        // Where the batch has panicked, nobody waits any more.
        if let Ok(mut round) = self.gathering.round.lock() {
            round.active -= 1;
            round.advance();
        }
    }
}

impl<B: Batch> Objective for Seat<'_, B> {
    fn dim(&self) -> usize {
        self.gathering.dim
    }

    fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
        assert_eq!(theta.len(), self.dim(), "theta has one entry a parameter");
        let theta: Arc<[f64]> = theta.into();
        let (point, loss, gradient) = self.ask(|round, answer| {
            let asked = Evaluation { seat: self.number, theta: Arc::clone(&theta), answer };
            round.evaluations.push(asked);
        });
        Box::new(SeatedPoint { seat: self, point, theta, loss, gradient })
    }
}

/// A point that a search has evaluated.
struct SeatedPoint<'a, B: Batch> {
    seat: &'a Seat<'a, B>,
    point: u64,
    theta: Arc<[f64]>,
    loss: f64,
    gradient: Vec<f64>,
}

impl<B: Batch> SeatedPoint<'_, B> {
    fn product(&self, matrix: Matrix, v: &[f64], out: &mut [f64]) {
        let product = self.seat.ask(|round, answer| {
            round.products.push(Product {
                seat: self.seat.number,
                matrix,
                point: self.point,
                theta: Arc::clone(&self.theta),
                v: v.to_vec(),
                answer,
            });
        });
        out.copy_from_slice(&product);
    }
}

impl<B: Batch> Point for SeatedPoint<'_, B> {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn gradient(&self) -> &[f64] {
        &self.gradient
    }

    fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
        self.product(Matrix::Hessian, v, out);
    }

    fn gauss_newton_vectors(&self, vectors: &[f64], out: &mut [f64]) -> Option<()> {
        let dim = self.gradient.len();
        for (v, out) in vectors.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            self.product(Matrix::GaussNewton, v, out);
        }
        Some(())
    }
}
