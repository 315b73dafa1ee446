//! Loss, gradient and Hessian products of two small networks against values made by an independent program.
//!
//! The program writes the loss out unit by unit in 60 digits (mpmath) and takes central differences of it, of the
//! second order with steps of 1e-15 for the products: no derivative is written anywhere. Inputs are formulas of whole
//! numbers over powers of two, so that they are the same there and here.

use crate::landscape::{
    activation::Activation,
    data::{Data, Targets},
    network::{Architecture, Cost, Network},
    objective::Objective,
};

const SAMPLES: usize = 5;
const PARAMETERS: usize = 26;

/// Whole numbers around zero over `scale`.
fn number(n: usize, modulus: usize, middle: f64, scale: f64) -> f64 {
    ((n % modulus) as f64 - middle) / scale
}

/// A 3-4-2 Swish network with biases.
fn network(cost: Cost, l2: f64) -> Network {
    let inputs = (0..SAMPLES * 3)
        .map(|n| (n / 3, n % 3))
        .map(|(s, f)| number(5 * s * s + 7 * f + 3 * s * f, 11, 5.0, 4.0))
        .collect();
    let target = |s: usize, o: usize| number(3 * s + 5 * o, 7, 3.0, 2.0);
    let targets = match cost {
        Cost::MeanSquaredError => {
            Targets::Values((0..SAMPLES * 2).map(|n| target(n / 2, n % 2)).collect())
        }
        Cost::CrossEntropy => Targets::Labels((0..SAMPLES).map(|s| s * s % 2).collect()),
    };
    let (sizes, activation) = (vec![3, 4, 2], Activation::Swish);
    let architecture = Architecture { sizes, bias: true, activation, cost, l2 };
    Network::new(architecture, Data { samples: SAMPLES, inputs, targets }).unwrap()
}

fn check(cost: Cost, l2: f64, loss: f64, gradient: &[f64], product: &[f64]) {
    let network = network(cost, l2);
    let theta: Vec<f64> =
        (0..PARAMETERS).map(|i| number(3 * i * i + 7 * i, 19, 9.0, 16.0)).collect();
    let v: Vec<f64> = (0..PARAMETERS).map(|i| number(5 * i + 3, 13, 6.0, 8.0)).collect();
    let point = network.evaluate(&theta);
    let mut found = vec![0.0; PARAMETERS];
    point.hessian_vector(&v, &mut found);
    assert!((point.loss() - loss).abs() < 1e-15, "{} {loss}", point.loss());
    assert_eq!((gradient.len(), product.len()), (PARAMETERS, PARAMETERS));
    for i in 0..PARAMETERS {
        let (of, expected) = (point.gradient()[i], gradient[i]);
        assert!((of - expected).abs() < 1e-15, "{cost:?} gradient {i}: {of} {expected}");
        let (of, expected) = (found[i], product[i]);
        assert!((of - expected).abs() < 1e-15, "{cost:?} product {i}: {of} {expected}");
    }
}

#[test]
fn the_mean_squared_error_has_its_reference_values() {
    let gradient = [
        0.054_444_884_781_240_536,
        -0.032_660_974_709_025_4,
        0.021_615_167_629_819_538,
        -0.083_293_936_707_347_93,
        0.121_987_697_657_583_87,
        -0.011_572_774_806_867_086,
        -0.071_350_783_708_305_37,
        0.053_904_190_549_676_09,
        -0.015_517_620_136_935_042,
        0.292_638_446_113_337_7,
        -0.068_748_423_755_246_51,
        0.297_800_970_834_345_15,
        -0.034_248_374_587_719_545,
        -0.037_729_459_095_382_86,
        0.015_262_813_356_979_488,
        -0.333_469_605_930_427_9,
        0.128_329_410_148_982_66,
        -0.159_255_354_772_712_77,
        -0.146_788_628_093_072_47,
        0.093_066_326_798_091_44,
        -0.007_651_697_413_536_519,
        0.004_350_146_130_249_359,
        -0.064_406_088_029_449_04,
        0.011_600_579_217_062_652,
        0.330_351_043_757_824_8,
        0.703_341_789_176_184_1,
    ];
    let product = [
        -0.031_120_554_870_468_265,
        -0.094_110_249_157_903_23,
        -0.190_975_311_286_597_9,
        -0.125_543_361_946_939_55,
        0.206_122_658_663_235_48,
        0.001_826_017_534_383_762_4,
        -0.033_741_685_195_507_125,
        -0.056_404_604_491_890_234,
        -0.121_558_154_527_045_92,
        0.087_377_504_425_242_43,
        0.025_329_783_262_780_382,
        0.125_857_553_486_035_25,
        0.180_536_515_243_335_17,
        -0.098_617_458_061_009_58,
        0.160_053_273_828_765_36,
        -0.137_531_943_246_841_43,
        0.578_749_220_307_843_9,
        0.063_403_092_562_120_5,
        0.023_445_556_113_034_675,
        -0.359_604_110_784_408_74,
        0.535_765_851_866_025_4,
        -0.134_396_969_544_815_7,
        -0.004_424_689_812_025_146,
        -0.281_024_594_305_379_07,
        0.021_016_005_077_980_96,
        0.894_912_498_704_955_5,
    ];
    check(Cost::MeanSquaredError, 0.0, 0.995_729_425_669_255_7, &gradient, &product);
}

#[test]
fn the_cross_entropy_has_its_reference_values() {
    let gradient = [
        -0.036_045_447_694_073_654,
        -0.001_227_614_054_533_093_9,
        0.010_391_683_907_189_347,
        0.000_347_029_128_553_598_86,
        0.076_800_533_608_737_05,
        -0.010_170_857_994_975_744,
        -0.004_559_872_314_184_382,
        0.021_722_149_231_368_29,
        -0.020_114_950_246_759_397,
        -0.016_826_923_076_923_076,
        0.0,
        -0.014_423_076_923_076_924,
        -0.004_991_671_377_995_842,
        -0.069_938_644_917_012_43,
        -0.025_279_733_897_881_147,
        -0.019_230_769_230_769_232,
        -0.000_389_782_374_740_699_66,
        -0.063_617_334_729_863_04,
        0.010_775_697_390_781_753,
        0.007_587_508_600_809_130_5,
        -0.004_417_909_932_951_608,
        0.078_040_411_652_939_97,
        0.006_051_225_686_141_325,
        -0.050_856_739_370_039_9,
        -0.103_508_329_362_412_78,
        0.137_162_175_516_258_95,
    ];
    let product = [
        -0.085_936_763_084_721_7,
        0.001_009_960_531_342_81,
        0.026_641_305_190_179_36,
        -0.002_790_643_572_979_844_8,
        0.142_858_799_452_789_43,
        -0.030_553_985_867_544_552,
        0.064_678_958_442_320_52,
        -0.051_496_666_991_432_62,
        0.007_927_025_632_126_532,
        0.035_612_814_578_125_714,
        -0.012_186_486_211_105_841,
        -0.040_099_379_415_802_94,
        0.074_490_130_833_636_09,
        -0.132_250_454_355_491_46,
        0.022_820_505_964_448_51,
        -0.044_749_551_489_244_484,
        0.003_272_149_534_826_111_6,
        0.137_339_690_832_408_38,
        0.037_589_634_136_212_17,
        0.030_174_702_817_623_26,
        0.020_766_312_003_635_427,
        -0.127_724_306_217_023_77,
        -0.042_397_326_443_904_48,
        -0.049_405_472_048_392_49,
        -0.213_572_362_112_361_55,
        0.237_610_823_650_823_1,
    ];
    check(Cost::CrossEntropy, 0.5, 0.713_877_260_745_220_2, &gradient, &product);
}
