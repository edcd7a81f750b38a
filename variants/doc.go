// Package variants makes cheaper implementations of layers for the accelerators that suit them badly. A variant has the
// layer's inputs and outputs, costs less there, and computes nearly the same; how nearly is measured, never assumed.
//
// The way of a variant, in the order in which to read the package:
//
//   - Targets: a [Target] is a layer that misses its budget on an accelerator. Which these are follows from the
//     budgets alone.
//   - Families: a [Family] is a way to make a convolution or a matrix product cheaper, such as low rank, fewer
//     channels or 8 bits. [Candidates] lists what all families make of a layer. A [Candidate] is an ONNX model from
//     the start: before its weights are known, it can be measured.
//   - Screening: only candidates that are measured to be fast enough somewhere ([Screen]) are worth fitting.
//   - Fits: a [Fitter] sets the weights by least squares on the activations that reach the layer, without training and
//     labels, and measures the error on inputs that it did not fit to. A candidate whose error is above what its fit
//     promised is refused.
//   - Choice: [Choose] takes the candidate with the least error that is fast enough. Implementations that were trained
//     or written elsewhere are candidates too, see [New].
//
// Package accuracy then proves what was chosen: it measures what the network with combinations of variants keeps of its
// accuracy. Only combinations that keep the promised share may run. Package design goes the whole way for a set of
// networks, and is what applications and the command line use. Along it a variant has four forms: the [Candidate], the
// plan.Variant that documents hold of it, the runtime.Unit that accelerators load, and the sched.Implementation that
// the scheduler picks.
//
// 8-bit products are not the same numbers on every processor: an [Arithmetic] says what becomes of them, and a proof is
// for one. What lower precision ([Lower]) computes depends on the accelerator: such a candidate is for one provider, and
// [Accelerators] compute it there, to measure its error and to prove it.
package variants
