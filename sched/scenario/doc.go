// Package scenario holds task systems, ready to be scheduled: the multi-camera-vision and AR scenarios that layer
// variants and virtual budgets were evaluated on (arXiv 2606.06818), those of XRBench, and some that were measured on
// real machines. It needs no files at run time and runs nothing itself.
//
//	s, err := scenario.Load("paper/mcv_heavy")
//	tables, err := sched.Compile(s.System)
//
// A name is a collection, a scenario and, after an @, the hardware it runs on;
// without it, the hardware it was published for. [Names] lists them.
//
// # Where the numbers come from
//
// The embedded tables, in data, are an excerpt of measurements made elsewhere:
//
//   - Layer shapes, the choice of variants and the accuracy of their
//     combinations come from the authors' public layer-variant repository
//     (Apache-2.0).
//   - Latencies and energies were generated from those shapes, and from the
//     models that XRBench ships, with the public XRBench edition of the MAESTRO
//     cost model. They are cycles at 1 GHz, so that a cycle is a nanosecond.
//   - The models and rates of the paper's scenarios are second-hand, from a third
//     party's reconstruction; those of XRBench come from its repository.
//
// Names that begin with hw/ are systems that were measured with this program: an H100 with a few cores of its machine,
// for example. Their Source names the machine and the commit; scripts/scenario makes them of a plan and its profile.
// Latencies are what a layer is expected to take while the other accelerators are busy, the dispatch included; handoffs
// are as measured. What is left out is how times spread, and that accelerators slow each other down by more or less
// than on average: the profile has that.
//
// # What was chosen
//
//   - A deadline is one period, rounded down to the nanosecond. A model that
//     another one triggers has the period of its nominal rate.
//   - Variants and combinations are those of the published evaluation. It
//     measured a fifth variant of VGG-11 (features.8) that it did not use; the
//     other four are numbered 1 to 4 here.
//   - Accuracy is the metric the paper reports: top-5 for the classifiers, mean
//     average precision (VOC) for MobileNetV2-SSD, delta-1 for Sp2Dense. All
//     combinations were measured, so valid sets are exact.
//   - Swin-Tiny is the export that lost its token dimension (0.82 ms on the
//     weight-stationary array); with the tokens it cannot meet 30 releases per
//     second anywhere.
//   - FBNet-C and the hand model of ar_social are XRBench's GE_FBNet_C and
//     HT_hand_graph_cnn_half, and have no variants.
//
// # What the numbers do not mean
//
// The cost model ignores stride, padding and batch. Branches are a chain in the order of export. Reshaping for a
// variant and handing tensors from one accelerator to another cost nothing. Real hardware differs most there. Scenarios
// that were measured have none of these limits, but their machine's noise.
package scenario
