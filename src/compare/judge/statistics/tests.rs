//! Numbers from scipy 1.17.1, statsmodels 0.15.0 and scikit-learn 1.9.1, and from the papers named.

use proptest::prelude::*;

use super::distributions::{ln_gamma, regularized_beta, t_quantile};
use super::*;
use crate::compare::judge::Rating;

/// Agrees to `digits` digits of the larger of 1e-300 and the expected value.
fn near(value: f64, expected: f64, digits: i32) -> bool {
    (value - expected).abs() <= expected.abs().max(1e-300) * 10_f64.powi(-digits)
}

#[test]
fn wilsons_interval_is_statsmodels_and_newcombes() {
    // statsmodels.stats.proportion.proportion_confint(yes, of, method="wilson")
    for (yes, of, low, high) in [
        (0, 5, 0.0, 0.434_482_464_783_175),
        (5, 5, 0.565_517_535_216_825, 1.0),
        (7, 10, 0.396_778_147_461_145, 0.892_208_732_593_699),
        (500, 1000, 0.469_069_600_368_104, 0.530_930_399_631_896),
        (1, 1, 0.206_549_314_377_237, 1.0),
    ] {
        let interval = Proportion { yes, of }.interval().unwrap();
        assert!(near(interval.low, low, 12) && near(interval.high, high, 12), "{yes}/{of}: {interval:?}");
    }
    // Newcombe 1998, Statistics in Medicine 17, table I, method 3, in four digits.
    for (yes, of, low, high) in
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    {
        let interval = Proportion { yes, of }.interval().unwrap();
        assert!(
            (interval.low - low).abs() < 6e-5 && (interval.high - high).abs() < 6e-5,
            "{yes}/{of}: {interval:?}"
        );
    }
    let nothing = Proportion::count([]);
    assert_eq!((nothing.rate(), nothing.interval()), (None, None));
    assert_eq!(Proportion::count([true, false, true]), Proportion { yes: 2, of: 3 });
}

#[test]
fn a_mean_has_students_interval_and_one_value_has_none() {
    // numpy's mean and std(ddof=1), scipy.stats.t.interval(0.95, n - 1, mean, sem)
    for (values, mean, deviation, low, high) in [
        (
            &[4.0, 5.0, 3.0, 4.0, 2.0, 5.0, 4.0, 4.0][..],
            3.875,
            0.991_031_208_965_114_9,
            3.046_477_175_317_178,
            4.703_522_824_682_822,
        ),
        (&[1.0, 5.0], 3.0, 2.828_427_124_746_190_3, -22.412_409_472_349_39, 28.412_409_472_349_39),
        (
            &[2.5, 1e3, -7.0, 12.25, 0.1],
            201.57,
            446.389_123_411_402_2,
            -352.695_303_729_675_1,
            755.835_303_729_675_2,
        ),
    ] {
        let of = Mean::of(values).unwrap();
        let interval = of.interval().unwrap();
        assert!(near(of.value, mean, 13) && near(of.deviation, deviation, 13), "{of:?}");
        assert!(near(interval.low, low, 11) && near(interval.high, high, 11), "{interval:?}");
        assert_eq!(of.count, values.len());
    }
    let same = Mean::of(&[3.0; 3]).unwrap().interval().unwrap();
    assert!(near(same.low, 3.0, 15) && near(same.high, 3.0, 15));
    assert_eq!(Mean::of(&[4.0]).unwrap().interval(), None);
    assert_eq!(Mean::of(&[]), None);
    assert_eq!(Mean::of(&[f64::NAN, 2.0, f64::INFINITY]).unwrap().count, 1);
}

#[test]
fn students_points_are_scipys() {
    // scipy.stats.t.ppf(0.975, freedom)
    for (freedom, expected) in [
        (1.0, 12.706_204_736_174_694),
        (2.0, 4.302_652_729_749_462),
        (3.0, 3.182_446_305_283_707_8),
        (9.0, 2.262_157_162_798_205),
        (29.0, 2.045_229_642_132_703),
        (1000.0, 1.962_339_080_826_408_3),
        (1e6, 1.959_966_356_814_107),
    ] {
        let point = t_quantile(0.975, freedom);
        assert!(near(point, expected, 9), "{freedom}: {point}");
    }
}

#[test]
fn gamma_and_beta_are_scipys() {
    // scipy.special.gammaln(x)
    for (x, expected) in [
        (0.5, 0.572_364_942_924_7),
        (1.5, -0.120_782_237_635_245_26),
        (3.0, std::f64::consts::LN_2),
        (14.9, 24.924_132_002_217_277),
        (15.0, 25.191_221_182_738_683),
        (1e6, 12_815_504.569_147_611),
    ] {
        assert!((ln_gamma(x) - expected).abs() < 1e-12 * f64::max(1.0, expected), "{x}: {}", ln_gamma(x));
    }
    assert!(ln_gamma(1.0).abs() < 1e-13);
    // scipy.special.betainc(a, b, x)
    for (x, a, b, expected) in [
        (0.3, 2.0, 5.0, 0.579_825),
        (0.5, 0.5, 0.5, 0.5),
        (0.999, 10.0, 0.5, 0.888_896_709_124_860_4),
        (1e-5, 3.0, 4.0, 1.999_955_000_359_999_4e-14),
        (0.7, 1000.0, 400.0, 0.118_981_470_219_208_63),
        (0.02, 50.0, 3000.0, 0.934_886_580_199_102_6),
    ] {
        let value = regularized_beta(x, a, b);
        assert!(near(value, expected, 9), "{x} {a} {b}: {value}");
    }
}

#[test]
fn the_sign_test_is_scipys_binomial_test_of_one_half() {
    // scipy.stats.binomtest(wins, wins + losses).pvalue
    for (wins, losses, expected) in [
        (1, 0, 1.0),
        (5, 0, 0.0625),
        (8, 2, 0.109_375),
        (3, 7, 0.343_75),
        (15, 15, 1.0),
        (60, 40, 0.056_887_933_640_980_89),
        (5200, 4800, 6.593_515_598_672_343e-5),
        (100, 200, 8.014_875_216_538_921e-9),
        (500_000, 501_500, 0.134_165_166_684_114_2),
    ] {
        let p = sign_test(wins, losses);
        assert!(near(p, expected, 8), "{wins} {losses}: {p}");
    }
    assert!(near(sign_test(0, 0), 1.0, 15));
}

#[test]
fn kappa_is_cohens() {
    let times = |n, pair| std::iter::repeat_n(pair, n);
    // The example of Wikipedia's article on Cohen's kappa: 20 and 15 of 50 the same, kappa 0.4.
    let grants = times(20, (true, true)).chain(times(5, (true, false))).chain(times(10, (false, true)));
    let agreement = Agreement::between(grants.chain(times(15, (false, false))));
    assert_eq!(agreement.same, Proportion { yes: 35, of: 50 });
    assert!(near(agreement.kappa.unwrap(), 0.4, 12));
    // sklearn.metrics.cohen_kappa_score
    let (a, b) = ([1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 3, 3], [1, 2, 2, 4, 5, 4, 4, 3, 1, 1, 3, 5]);
    assert!(near(Agreement::between(a.into_iter().zip(b)).kappa.unwrap(), 0.586_206_896_551_724_1, 12));
    let opposite = Agreement::between([(0, 1), (1, 0), (0, 1), (1, 0)]);
    assert!(near(opposite.kappa.unwrap(), -1.0, 12));
    // Nothing to compare with: both say the same of all, or there is nothing.
    assert_eq!(
        Agreement::between([(1, 1), (1, 1)]),
        Agreement { same: Proportion { yes: 2, of: 2 }, kappa: None }
    );
    assert_eq!(Agreement::between::<u8>([]).kappa, None);
}

#[test]
fn wins_are_counted_within_groups_and_never_across_them() {
    let stars = |stars| Rating { stars: Some(stars), ..Rating::default() };
    let (one, three, five) = (stars(1), stars(3), stars(5));
    let mut wins = Wins::new(3);
    wins.add_ratings(&[Some(&three), Some(&one), Some(&one)]);
    wins.add_ratings(&[Some(&five), Some(&five), None]);
    // Column 1 has more stars than column 0 had in the first group, which says nothing.
    wins.add_ratings(&[None, Some(&five), None]);
    assert_eq!(wins.between(0, 1), Record { wins: 1, ties: 1, losses: 0 });
    assert_eq!(wins.between(1, 0), Record { wins: 0, ties: 1, losses: 1 });
    assert_eq!(wins.total(0), Record { wins: 2, ties: 1, losses: 0 });
    assert_eq!(wins.total(2), Record { wins: 0, ties: 1, losses: 1 });
    assert_eq!(wins.firsts(0), Proportion { yes: 1, of: 2 });
    assert_eq!(wins.firsts(1), Proportion { yes: 0, of: 2 });
    assert_eq!(wins.firsts(2), Proportion { yes: 0, of: 1 });
    assert_eq!(wins.between(0, 3), Record::default());
    assert_eq!(wins.firsts(7), Proportion { yes: 0, of: 0 });
}

#[test]
fn ranks_count_from_the_best_and_scores_from_the_worst() {
    let (mut ranks, mut scores) = (Wins::new(3), Wins::new(3));
    ranks.add_ranks(&[Some(2), Some(1), Some(2)]);
    scores.add_scores(&[Some(0.5), Some(0.75), Some(0.5)]);
    assert_eq!(ranks, scores);
    assert_eq!(ranks.firsts(1), Proportion { yes: 1, of: 1 });
    assert_eq!(ranks.between(0, 2), Record { wins: 0, ties: 1, losses: 0 });
    scores.add_scores(&[Some(f64::NAN), Some(1.0), None]);
    assert_eq!(ranks, scores);
    // More cells than columns are left out.
    ranks.add_ranks(&[None, Some(1), None, Some(2)]);
    assert_eq!(ranks, scores);
}

#[test]
fn ties_are_left_out_of_a_win_rate_and_its_test() {
    let record = Record { wins: 8, ties: 100, losses: 2 };
    assert_eq!(record.win_rate(), Proportion { yes: 8, of: 10 });
    assert!(near(record.p_value(), 0.109_375, 10));
}

proptest! {
    #[test]
    fn an_interval_holds_its_rate_and_narrows_with_more(yes in 0_usize..500, more in 0_usize..500) {
        let few = Proportion { yes, of: yes + more };
        let many = Proportion { yes: yes * 9, of: (yes + more) * 9 };
        if let (Some(rate), Some(few), Some(many)) = (few.rate(), few.interval(), many.interval()) {
            prop_assert!(0.0 <= few.low && few.low <= rate && rate <= few.high && few.high <= 1.0);
            prop_assert!(many.high - many.low < few.high - few.low);
        }
    }

    #[test]
    fn a_sign_test_is_a_probability_the_same_both_ways(wins in 0_usize..3000, losses in 0_usize..3000) {
        let p = sign_test(wins, losses);
        prop_assert!((0.0..=1.0).contains(&p));
        prop_assert_eq!(p.to_bits(), sign_test(losses, wins).to_bits());
    }

    #[test]
    fn what_one_wins_the_other_loses(groups in proptest::collection::vec([proptest::option::of(0_u32..4), proptest::option::of(0_u32..4), proptest::option::of(0_u32..4)], 0..20)) {
        let mut wins = Wins::new(3);
        for group in &groups {
            wins.add_ranks(group);
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (of_a, of_b) = (wins.between(a, b), wins.between(b, a));
            prop_assert_eq!((of_a.wins, of_a.ties, of_a.losses), (of_b.losses, of_b.ties, of_b.wins));
            let both = groups.iter().filter(|group| group[a].is_some() && group[b].is_some()).count();
            prop_assert_eq!(of_a.wins + of_a.ties + of_a.losses, both);
        }
        prop_assert!((0..3).map(|column| wins.firsts(column).yes).sum::<usize>() <= groups.len());
    }
}
