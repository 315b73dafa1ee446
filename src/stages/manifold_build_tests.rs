//! The stimuli of `manifold.build`, variation by variation.

use super::manifold_build::ManifoldBuild;
use crate::artifacts::activations::{Activations, Layer};
use crate::artifacts::events::Events;
use crate::artifacts::images::Images;
use crate::artifacts::manifolds::Manifolds;
use crate::artifacts::movie::Movie;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::stages::shared::bench::Bench;

fn bench() -> Bench {
    let pixels = (0..12 * 4).map(|i| (i / 4 + 1) as f32).collect();
    let labels = (0..12).map(|i| i % 3).collect();
    Bench::new()
        .put("images", &Images { count: 12, channels: 1, height: 2, width: 2, pixels, labels })
}

#[test]
fn class_manifolds_hold_different_images_of_one_class() {
    let text = "images = '@images'\nvariation = { classes = {} }\nmanifolds = 3\npoints = 4";
    let built: Manifolds = bench().run::<ManifoldBuild>(text).unwrap().main();
    assert_eq!(built.stimuli.labels, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    for manifold in 0..3usize {
        let mut images: Vec<u32> =
            (0..4).map(|m| built.stimuli.image(manifold * 4 + m)[0] as u32 - 1).collect();
        images.sort_unstable();
        let class = manifold as u32;
        assert_eq!(images, [class, class + 3, class + 6, class + 9]);
    }
    let error = bench().run::<ManifoldBuild>(&text.replace("points = 4", "points = 5"));
    assert!(error.unwrap_err().to_string().contains("0 classes have as many images"));
}

#[test]
fn translation_manifolds_are_one_image_at_different_places() {
    let text = "images = '@images'\nvariation = { translation = { max_shift = 1 } }\n\
                manifolds = 2\npoints = 9\nsize = 4";
    let built: Manifolds = bench().run::<ManifoldBuild>(text).unwrap().main();
    let images: Vec<&[f32]> = (0..9).map(|i| built.stimuli.image(i)).collect();
    for (i, image) in images.iter().enumerate() {
        assert_eq!(image.iter().sum::<f32>(), images[0].iter().sum::<f32>());
        assert!(images[..i].iter().all(|other| other != image));
    }
    let error = bench().run::<ManifoldBuild>(&text.replace("points = 9", "points = 10"));
    assert!(error.unwrap_err().to_string().contains("give 9"));
}

#[test]
fn shifts_off_the_canvas_are_refused() {
    let text = "images = '@images'\nmanifolds = 2\npoints = 2";
    let error = |shift: usize| {
        let variation = format!("variation = {{ translation = {{ max_shift = {shift} }} }}");
        let run = |size: &str| {
            bench().run::<ManifoldBuild>(&format!("{text}\n{variation}\n{size}")).map(drop)
        };
        [run(""), run("size = 5")].map(|run| run.err().map(|error| error.to_string()))
    };
    // Two of two pixels: a shift of 1 leaves one. Centered on five, the second and third: 2 down, 3 up.
    assert_eq!(error(1), [None, None]);
    let [own, larger] = error(2);
    assert!(own.unwrap().contains("off a canvas of 2 x 2") && larger.is_none());
    assert!(error(3)[1].as_ref().unwrap().contains("off a canvas of 5 x 5"));
    assert!(error(6)[1].as_ref().unwrap().contains("at most the canvas's side, 5"));
    assert!(error(5000)[0].as_ref().unwrap().contains("at most the canvas's side, 4096"));
}

#[test]
fn the_surest_images_of_a_class_come_first() {
    // Twelve images of three classes; one feature, by which logit 0 falls and the others rise.
    let features =
        Layer { name: "pooled".into(), features: 1, values: (0..12).map(|i| i as f32).collect() };
    let labels = (0..12).map(|i| i % 3).collect();
    let answers = Activations { count: 12, labels, layers: vec![features] };
    let file = TensorFile::default()
        .with("weight", Tensor::f32(&[3, 1], vec![-1.0, 0.5, 0.25]))
        .with("bias", Tensor::f32(&[3], vec![0.0; 3]));
    let bench = bench().put("answers", &answers).put("probe", &Tensors(file));
    let text = "images = '@images'\nmanifolds = 3\npoints = 2\nactivations = '@answers'\n\
                classifier = '@probe'\nvariation = { classes = { confident = {} } }";
    let built: Manifolds = bench.run::<ManifoldBuild>(text).unwrap().main();
    let images: Vec<u32> = (0..6).map(|m| built.stimuli.image(m)[0] as u32 - 1).collect();
    // Class 2 loses to class 1 as the feature grows: its surest image is where no logit stands out.
    assert_eq!(images, [0, 3, 10, 7, 2, 5]);
    let error = |text: &str| bench.run::<ManifoldBuild>(text).unwrap_err().to_string();
    let lacking = error(&text.replace("classifier = '@probe'\n", ""));
    assert!(lacking.contains("classifier") && lacking.contains("is needed for"), "{lacking}");
    let idle = error(&text.replace("{ confident = {} }", "{}"));
    assert!(idle.contains("activations") && idle.contains("only"), "{idle}");
}

#[test]
fn exemplars_differ_by_color_angle_or_size() {
    let pixels = (0..3 * 25).map(|i| (i % 5) as f32 / 5.0).collect();
    let images = Images { count: 3, channels: 1, height: 5, width: 5, pixels, labels: vec![] };
    let bench = Bench::new().put("images", &images);
    for variation in ["color = { strength = 1.0 }", "rotation = {}", "scale = {}"] {
        let text = |seed: u64| {
            format!(
                "images = '@images'\nmanifolds = 2\npoints = 4\nsize = 9\nseed = {seed}\n\
                 variation = {{ {variation} }}"
            )
        };
        let build = |seed| bench.run::<ManifoldBuild>(&text(seed)).unwrap().main::<Manifolds>();
        let built = build(1);
        assert_eq!(built.stimuli.labels, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!((built.stimuli.height, built.stimuli.width), (9, 9));
        let points: Vec<&[f32]> = (0..8).map(|i| built.stimuli.image(i)).collect();
        for (i, point) in points.iter().enumerate() {
            assert!(point.iter().any(|value| *value > 0.0), "{variation}");
            assert!(point.iter().all(|value| (0.0..=1.0).contains(value)), "{variation}");
            assert!(points[..i].iter().all(|other| other != point), "{variation}: {i}");
        }
        assert_eq!(built, build(1));
        assert_ne!(built, build(2));
    }
    let refused = |variation: &str| {
        let text = format!("images = '@images'\nmanifolds = 2\nvariation = {{ {variation} }}");
        bench.run::<ManifoldBuild>(&text).unwrap_err().to_string()
    };
    assert!(refused("rotation = { max_angle = 0 }").contains("must be above 0"));
    assert!(refused("scale = { smallest = 2 }").contains("above `smallest`"));
    assert!(refused("color = { strength = 3 }").contains("at most 2.5"));
}

#[test]
fn event_manifolds_are_as_long_as_their_events() {
    let data = (0..40).map(|i| i as f32).collect();
    let movie =
        Movie { frames: 20, channels: 1, height: 1, width: 2, rate: 1.0, pitch: None, data };
    // Events of 2, 5, 3 and 6 frames.
    let events = Events { starts: vec![0, 3, 9, 13], ends: vec![2, 8, 12, 19] };
    let bench = Bench::new().put("movie", &movie).put("events", &events);
    let text = "movie = '@movie'\nevents = '@events'\nmanifolds = 2\n\
                variation = { events = { shortest = 3, longest = 5 } }";
    let built: Manifolds = bench.run::<ManifoldBuild>(text).unwrap().main();
    assert_eq!(built.stimuli.labels, [0, 0, 0, 0, 0, 1, 1, 1]);
    // Two pixels in the upper row of a canvas of two by two.
    assert_eq!(built.stimuli.image(0), [6.0, 7.0, 0.0, 0.0]);
    assert_eq!(built.stimuli.image(5), [18.0, 19.0, 0.0, 0.0]);
    let more = text.replace("manifolds = 2", "manifolds = 3");
    let error = bench.run::<ManifoldBuild>(&more).unwrap_err().to_string();
    assert!(error.contains("2 of 4 events have 3 to 5 frames"), "{error}");
    let lacking = text.replace("events = '@events'\n", "");
    let error = bench.run::<ManifoldBuild>(&lacking).unwrap_err().to_string();
    assert!(error.contains("events") && error.contains("is needed for"), "{error}");
}
