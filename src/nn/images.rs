//! Images and movie frames in memory, and batches of them as tensors.

use candle_core::{Device, Tensor};

use super::error::NnError;

/// Images or frames of one size, n×c×h×w, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pixels: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a> Images<'a> {
    /// Sees a slice as gray images n×h×w. Fails if the length does not fit or a value is not finite.
    pub fn gray(pixels: &'a [f32], height: usize, width: usize) -> Result<Self, NnError> {
        Self::new(pixels, 1, height, width)
    }

    /// Sees a slice as images n×c×h×w. Fails if the length does not fit or a value is not finite.
    pub fn new(
        pixels: &'a [f32],
        channels: usize,
        height: usize,
        width: usize,
    ) -> Result<Self, NnError> {
        let size = channels * height * width;
        if size == 0 {
            let value = format!("{channels}×{height}×{width}");
            return Err(NnError::InvalidValue { name: "image size", condition: "above 0", value });
        }
        if !pixels.len().is_multiple_of(size) {
            let expected = pixels.len() / size * size;
            return Err(NnError::WrongLength { what: "the pixels", expected, found: pixels.len() });
        }
        if !pixels.iter().all(|value| value.is_finite()) {
            return Err(NnError::NotFiniteInput { what: "the images" });
        }
        Ok(Self { pixels, channels, height, width })
    }

    /// Counts the images.
    pub fn count(&self) -> usize {
        self.pixels.len() / (self.channels * self.height * self.width)
    }

    /// Counts the channels of an image.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Yields the height and width of an image.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The values of all images, n×c×h×w.
    pub fn pixels(&self) -> &'a [f32] {
        self.pixels
    }

    /// The values of one image, c×h×w.
    pub fn image(&self, index: usize) -> &'a [f32] {
        let size = self.channels * self.height * self.width;
        &self.pixels[index * size..][..size]
    }

    /// Gathers images into an n×h×w×c tensor of `channels` channels. Gray images are repeated in each.
    pub fn batch(
        &self,
        indices: &[usize],
        channels: usize,
        device: &Device,
    ) -> Result<Tensor, NnError> {
        let mut values = Vec::new();
        self.gather(indices, channels, &mut values)?;
        let shape = (indices.len(), self.height, self.width, channels);
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    /// Fills a buffer with images, n×h×w×`channels`. Gray images are repeated in each channel.
    pub fn gather(
        &self,
        indices: &[usize],
        channels: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), NnError> {
        self.check_channels(channels)?;
        let area = self.height * self.width;
        out.clear();
        out.reserve(indices.len() * area * channels);
        for index in indices {
            push_channels_last(self.image(*index), area, channels, out);
        }
        Ok(())
    }

    /// Fails if the images do not fit a network of `channels`.
    pub(super) fn check_channels(&self, channels: usize) -> Result<(), NnError> {
        if self.channels != 1 && self.channels != channels {
            return Err(NnError::WrongChannels { expected: channels, found: self.channels });
        }
        Ok(())
    }
}

/// Appends an image, planes of `area` values, pixel by pixel; one plane is repeated in each of `channels`.
pub(super) fn push_channels_last(image: &[f32], area: usize, channels: usize, out: &mut Vec<f32>) {
    for pixel in 0..area {
        // Channel i of a gray image is its only one.
        out.extend((0..channels).map(|i| image[i * area % image.len() + pixel]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_last_and_gray_is_repeated() {
        let pixels: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let check = |images: Images, channels: usize, expected: &[f32]| {
            let batch = images.batch(&[1], channels, &Device::Cpu).unwrap();
            assert_eq!(batch.dims(), [1, 1, 2, channels]);
            assert_eq!(batch.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        };
        check(Images::gray(&pixels, 1, 2).unwrap(), 1, &[2.0, 3.0]);
        check(Images::gray(&pixels, 1, 2).unwrap(), 3, &[2.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
        check(Images::new(&pixels, 3, 1, 2).unwrap(), 3, &[6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
        assert_eq!(Images::new(&pixels, 3, 1, 2).unwrap().count(), 4);
    }

    #[test]
    fn bad_images_are_refused() {
        let message = |result: Result<Images, NnError>| result.unwrap_err().to_string();
        assert_eq!(
            message(Images::gray(&[0.0; 5], 2, 2)),
            "expected 4 elements in the pixels, found 5"
        );
        assert_eq!(message(Images::gray(&[], 0, 2)), "image size must be above 0, found 1×0×2");
        let nan = [0.0, f32::NAN];
        assert_eq!(message(Images::gray(&nan, 1, 2)), "a value of the images is not finite");
        let color = Images::new(&[0.0; 3], 3, 1, 1).unwrap();
        let error = color.batch(&[0], 1, &Device::Cpu).unwrap_err();
        assert_eq!(error.to_string(), "images of 3 channels do not fit a network of 1");
    }
}
