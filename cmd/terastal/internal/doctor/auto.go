package doctor

import (
	"context"
	"slices"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
)

// gpuProviders are the providers that a GPU may open with, the best first.
var gpuProviders = []string{"cuda", "webgpu", "coreml", "directml"}

// Auto chooses accelerators for a machine on which the given providers open.
//
// The CPU becomes two accelerators that differ in their optimisation level: with the blocked layout ("all") 3x3 and
// depthwise convolutions are faster, without it ("basic") many 1x1 ones. Each has half of the allowed cores, after one
// is kept free for the scheduler; with two cores each has one, and one core is a single accelerator. A GPU becomes
// another one; a software Vulkan driver does not, since it computes on the same cores, slowly.
func Auto(info hostinfo.Info, open []string) []runtime.Spec {
	specs := []runtime.Spec{}
	if slices.Contains(open, "cpu") {
		specs = append(specs, cpus(info.AllowedCores)...)
	}
	for _, provider := range gpuProviders {
		if len(info.GPUs) > 0 && slices.Contains(open, provider) {
			specs = append(specs, runtime.Spec{Name: "gpu0", Provider: provider, Optimization: "all", Threads: 1})
			break
		}
	}
	return specs
}

func cpus(cores []int) []runtime.Spec {
	spec := func(name, optimization string, cores []int) runtime.Spec {
		return runtime.Spec{Name: name, Provider: "cpu", Optimization: optimization, Threads: max(1, len(cores)),
			Cores: slices.Clone(cores)}
	}
	if len(cores) < 2 {
		return []runtime.Spec{spec("cpu0-all", "all", cores)}
	}
	each := max(1, (len(cores)-1)/2)
	return []runtime.Spec{
		spec("cpu0-all", "all", cores[:each]),
		spec("cpu1-basic", "basic", cores[each:2*each]),
	}
}

// Accelerators is Auto for a machine of which nothing has been tried yet: it
// probes the providers that a GPU may open with, if there is one.
func Accelerators(ctx context.Context, library string, info hostinfo.Info) []runtime.Spec {
	open := []string{"cpu"}
	if len(info.GPUs) > 0 {
		probe := Child(ProbeTimeout, Self)
		for _, provider := range gpuProviders {
			if probe(ctx, library, runtime.Spec{Name: provider, Provider: provider}) == nil {
				open = append(open, provider)
			}
		}
	}
	return Auto(info, open)
}
