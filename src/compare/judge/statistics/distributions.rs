//! Room `compare`: the distributions that intervals and tests are made of, in double precision.

/// The point below which 97.5 % of a standard normal distribution lie.
pub(super) const NORMAL_97_5: f64 = 1.959_963_984_540_054;

/// The two-sided sign test (binomial test of one half) for paired wins: how likely it is, if neither is better, that wins
/// are spread as unevenly as this or more. Ties are left out. 1 where there are no wins at all.
#[must_use]
pub fn sign_test(wins: usize, losses: usize) -> f64 {
    let (fewer, more) = (wins.min(losses) as f64, wins.max(losses) as f64);
    // P(X ≥ k) of n tosses is I_½(k, n − k + 1) (DLMF 8.17.5); both tails are alike.
    let tail = if more > 0.0 { regularized_beta(0.5, more, fewer + 1.0) } else { 1.0 };
    (2.0 * tail).min(1.0)
}

/// The point below which a share `p` (above ½) of Student's t distribution with so many degrees of freedom lies: halved
/// towards it, as far as doubles tell.
pub(super) fn t_quantile(p: f64, freedom: f64) -> f64 {
    // P(T > t) = ½ I_x(ν/2, ½), x = ν / (ν + t²) (DLMF 8.17; Abramowitz and Stegun 26.7.1).
    let above = |t: f64| 0.5 * regularized_beta(freedom / (freedom + t * t), 0.5 * freedom, 0.5);
    let (mut low, mut high) = (0.0, 2.0);
    while above(high) > 1.0 - p && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if above(middle) > 1.0 - p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularized incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22) in Lentz's way.
pub(super) fn regularized_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below this point; above it I_x(a, b) = 1 − I_{1−x}(b, a).
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below(1.0 - x, b, a);
    }
    beta_below(x, a, b)
}

fn beta_below(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    // It takes about √max(a, b) turns.
    for turn in 1..100_000_u32 {
        let m = f64::from(turn);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// ln Γ(x) for x > 0: Stirling's series (DLMF 5.11.1) from 15 on, where its terms give all digits; below, by Γ(x + 1) = x Γ(x).
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 15.0 {
        product *= x;
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * square)) / square) / square)
            / square)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - f64::ln(product)
}
