//! The kinds of stages: one file a kind, one line here.

pub mod shared;

pub mod activations;
pub mod critical_analytic;
pub mod critical_classify;
#[cfg(test)]
mod critical_classify_tests;
pub mod critical_grid;
pub mod critical_search;
#[cfg(test)]
mod critical_search_tests;
pub mod critical_start;
pub mod data_downsample;
pub mod data_gaussian;
pub mod data_pca;
pub mod data_select;
pub mod encoder_export;
pub mod encoder_import;
pub mod encoder_random;
pub mod exec;
pub mod images_idx;
pub mod images_table;
pub mod manifold_build;
#[cfg(test)]
mod manifold_build_tests;
pub mod manifold_capacity;
#[cfg(test)]
mod manifold_capacity_tests;
pub mod manifold_glue;
pub mod manifold_simulated_capacity;
pub mod movie_export;
pub mod movie_frames;
pub mod movie_normalise;
pub mod movie_segment;
pub mod movie_shuffle;
pub mod movie_split;
pub mod movie_stats;
pub mod movie_watershed;
pub mod network_train;
pub mod pretrain_images;
pub mod pretrain_simclr;
pub mod probe_linear;
pub mod task_translate;
pub mod waves_movie;
pub mod waves_recording;
pub mod waves_simulate;

use crate::engine::kind::{Kind, Registry};

/// Every kind that experiments may name.
pub const KINDS: Registry = Registry(&[
    Kind::of::<waves_simulate::WavesSimulate>(),
    Kind::of::<waves_recording::WavesRecording>(),
    Kind::of::<waves_movie::WavesMovie>(),
    Kind::of::<movie_normalise::MovieNormalise>(),
    Kind::of::<movie_segment::MovieSegment>(),
    Kind::of::<movie_watershed::MovieWatershed>(),
    Kind::of::<movie_stats::MovieStats>(),
    Kind::of::<movie_shuffle::MovieShuffle>(),
    Kind::of::<movie_split::MovieSplit>(),
    Kind::of::<movie_frames::MovieFrames>(),
    Kind::of::<movie_export::MovieExport>(),
    Kind::of::<encoder_random::EncoderRandom>(),
    Kind::of::<encoder_import::EncoderImport>(),
    Kind::of::<encoder_export::EncoderExport>(),
    Kind::of::<pretrain_simclr::PretrainSimclr>(),
    Kind::of::<pretrain_images::PretrainImages>(),
    Kind::of::<images_idx::ImagesIdx>(),
    Kind::of::<images_table::ImagesTable>(),
    Kind::of::<task_translate::TaskTranslate>(),
    Kind::of::<probe_linear::ProbeLinear>(),
    Kind::of::<manifold_build::ManifoldBuild>(),
    Kind::of::<activations::LayerActivations>(),
    Kind::of::<manifold_capacity::ManifoldCapacity>(),
    Kind::of::<manifold_simulated_capacity::ManifoldSimulatedCapacity>(),
    Kind::of::<manifold_glue::ManifoldGlue>(),
    Kind::of::<data_downsample::DataDownsample>(),
    Kind::of::<data_gaussian::DataGaussian>(),
    Kind::of::<data_select::DataSelect>(),
    Kind::of::<data_pca::DataPca>(),
    Kind::of::<network_train::NetworkTrain>(),
    Kind::of::<critical_start::CriticalStart>(),
    Kind::of::<critical_grid::CriticalGrid>(),
    Kind::of::<critical_search::CriticalSearch>(),
    Kind::of::<critical_classify::CriticalClassify>(),
    Kind::of::<critical_analytic::CriticalAnalytic>(),
    Kind::of::<exec::Exec>(),
]);

#[cfg(test)]
mod tests {
    use super::*;

    /// What every stage has beside its parameters, now or one day.
    const RESERVED: [&str; 7] =
        ["kind", "about", "resources", "retries", "timeout", "keep", "when"];

    #[test]
    fn kinds_have_names_of_their_own_and_no_parameter_has_a_reserved_one() {
        for (i, kind) in KINDS.0.iter().enumerate() {
            assert!(KINDS.0[..i].iter().all(|other| other.name != kind.name), "{}", kind.name);
            for field in kind.fields() {
                assert!(!RESERVED.contains(&field.name.as_str()), "{}: {}", kind.name, field.name);
            }
        }
    }
}
