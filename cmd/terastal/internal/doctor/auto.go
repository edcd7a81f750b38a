package doctor

import (
	"context"
	"slices"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
)

// gpuProviders are the providers that a GPU may open with, the best first.
var gpuProviders = []string{"cuda", "webgpu", "coreml", "directml"}

// gpuName is what Auto calls a GPU.
const gpuName = "gpu"

// Auto chooses accelerators for a machine on which the given providers open.
//
// The CPU becomes two accelerators that differ in their optimisation level: with the blocked layout ("all") 3x3 and
// depthwise convolutions are faster, without it ("basic") many 1x1 ones. Each has half of the allowed cores, after one
// is kept free for the scheduler; with two cores each has one, and one core is a single accelerator. A GPU becomes
// another one, or as many as it has streams; a software Vulkan driver does not, since it computes on the same cores,
// slowly. The thread of each stream watches the GPU without a pause, and has a core to itself while the CPU's
// accelerators keep one each.
func Auto(info hostinfo.Info, open []string, streams int) []runtime.Spec {
	var gpu []runtime.Spec
	for _, provider := range gpuProviders {
		if len(info.GPUs) > 0 && slices.Contains(open, provider) {
			s := runtime.Spec{Name: gpuName, Provider: provider, Optimization: "all", Threads: 1}
			if !s.HasStreams() {
				streams = 1
			}
			gpu = s.Streams(streams)
			break
		}
	}
	specs := []runtime.Spec{}
	free := info.AllowedCores
	if slices.Contains(open, "cpu") {
		specs = append(specs, cpus(free, len(gpu))...)
		for _, s := range specs {
			free = free[len(s.Cores):]
		}
	}
	if len(free) > len(gpu) {
		for k := range gpu {
			gpu[k].Cores = free[k : k+1 : k+1]
		}
	}
	return append(specs, gpu...)
}

// cpus are the accelerators of the CPU, when so many threads watch a GPU.
func cpus(cores []int, watching int) []runtime.Spec {
	spec := func(name, optimization string, cores []int) runtime.Spec {
		return runtime.Spec{Name: name, Provider: "cpu", Optimization: optimization, Threads: max(1, len(cores)),
			Cores: slices.Clone(cores)}
	}
	if len(cores) < 2 {
		return []runtime.Spec{spec("cpu0-all", "all", cores)}
	}
	each := max(1, (len(cores)-1-watching)/2)
	return []runtime.Spec{
		spec("cpu0-all", "all", cores[:each]),
		spec("cpu1-basic", "basic", cores[each:2*each]),
	}
}

// Accelerators is Auto for a machine of which nothing has been tried yet: it probes the providers that a GPU may open
// with, if there is one. What it returns proposes accelerators by how many streams the GPU has.
func Accelerators(ctx context.Context, library string, info hostinfo.Info) func(streams int) []runtime.Spec {
	open := []string{"cpu"}
	if len(info.GPUs) > 0 {
		probe := Child(ProbeTimeout, Self)
		for _, provider := range gpuProviders {
			if _, err := probe(ctx, library, runtime.Spec{Name: provider, Provider: provider}); err == nil {
				open = append(open, provider)
				break
			}
		}
	}
	return func(streams int) []runtime.Spec { return Auto(info, open, streams) }
}
