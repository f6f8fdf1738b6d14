//! The sum with AVX2, where the processor has it.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi64,
};

/// The sum of `bytes` in memory order modulo 2^64 - 1; `None` without AVX2.
#[inline]
pub(super) fn sum(bytes: &[u8]) -> Option<u64> {
    // One relaxed load of a cached word after the first call.
    if !is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: the processor has AVX2.
    Some(unsafe { sum_avx2(bytes) })
}

/// Each 64-bit lane adds up whole words, wrapping, and their high halves apart. The sum of
/// the low halves is what remains when the high halves are taken out, and neither can
/// overflow below 2^32 blocks.
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    const STEP: usize = 4;
    let (blocks, tail) = bytes.as_chunks::<32>();
    let (steps, rest) = blocks.as_chunks::<STEP>();
    let mut whole = [_mm256_setzero_si256(); STEP];
    let mut high = [_mm256_setzero_si256(); STEP];
    for step in steps {
        for i in 0..STEP {
            let words = load(&step[i]);
            whole[i] = _mm256_add_epi64(whole[i], words);
            high[i] = _mm256_add_epi64(high[i], _mm256_srli_epi64::<32>(words));
        }
    }
    for (i, block) in rest.iter().enumerate() {
        let words = load(block);
        whole[i] = _mm256_add_epi64(whole[i], words);
        high[i] = _mm256_add_epi64(high[i], _mm256_srli_epi64::<32>(words));
    }
    let whole = add4(whole);
    let high = add4(high);
    let low = _mm256_sub_epi64(whole, _mm256_slli_epi64::<32>(high));
    let sums = store(_mm256_add_epi64(low, high));
    // 2^32 is 1 modulo 2^16 - 1: both halves have the same weight.
    let mut total = super::Sum(super::sum_words(tail));
    for sum in sums {
        total = total.add(super::Sum(sum));
    }
    total.0
}

#[target_feature(enable = "avx2")]
fn add4(lanes: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = lanes;
    _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d))
}

#[target_feature(enable = "avx2")]
fn load(block: &[u8; 32]) -> __m256i {
    // SAFETY: the block is 32 readable bytes and the load needs no alignment.
    unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(lanes: __m256i) -> [u64; 4] {
    let mut out = [0; 4];
    // SAFETY: the array is 32 writable bytes and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), lanes) };
    out
}
