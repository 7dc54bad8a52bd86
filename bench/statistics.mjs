/** Median, 95th percentile (nearest rank) and number of samples; null of none. */
export function summarize(samples) {
  if (samples.length === 0) return null;
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return { p50: round(rank(0.5)), p95: round(rank(0.95)), n: samples.length };
}

function round(number) {
  return Number(number.toPrecision(4));
}
