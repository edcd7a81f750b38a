package zoo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown is what Info and Build answer for a name that is not in Names.
var ErrUnknown = errors.New("not in the zoo")

// Architecture is what is published about a network.
type Architecture struct {
	Name       string
	Task       string
	Input      []int64 // shape, batch first
	Classes    int64
	Parameters int64  // weights, biases, scales; no running statistics
	MACs       int64  // multiply-accumulates of one inference
	Source     string // where the architecture and the counts come from

	build func(*net, feature) feature
}

var architectures = []Architecture{
	{
		Name: "ds_cnn_kws", Task: "keyword spotting", Input: []int64{1, 1, 49, 10}, Classes: 12,
		Parameters: 23_756, MACs: 2_656_768, build: dsCNN,
		Source: "Zhang et al., Hello Edge, 2017; MLPerf Tiny keyword spotting reference",
	}, {
		Name: "fbnetc", Task: "image classification", Input: []int64{1, 3, 224, 224}, Classes: 1000,
		Parameters: 5_570_000, MACs: 375_000_000, build: fbnetC,
		Source: "Wu et al., FBNet, CVPR 2019; layer list as in timm fbnetc_100",
	}, {
		Name: "inceptionv3", Task: "image classification", Input: []int64{1, 3, 299, 299}, Classes: 1000,
		Parameters: 23_830_000, MACs: 5_710_000_000, build: inceptionV3,
		Source: "Szegedy et al., Rethinking the Inception Architecture, CVPR 2016; torchvision, without the auxiliary head",
	}, {
		Name: "mobilenetv2", Task: "image classification", Input: []int64{1, 3, 224, 224}, Classes: 1000,
		Parameters: 3_500_000, MACs: 300_000_000, build: mobileNetV2,
		Source: "Sandler et al., MobileNetV2, CVPR 2018; torchvision",
	}, {
		Name: "resnet18", Task: "image classification", Input: []int64{1, 3, 224, 224}, Classes: 1000,
		Parameters: 11_690_000, MACs: 1_810_000_000, build: resnet(basicBlock, 2, 2, 2, 2),
		Source: "He et al., Deep Residual Learning, CVPR 2016; torchvision",
	}, {
		Name: "resnet50", Task: "image classification", Input: []int64{1, 3, 224, 224}, Classes: 1000,
		Parameters: 25_560_000, MACs: 4_090_000_000, build: resnet(bottleneck, 3, 4, 6, 3),
		Source: "He et al., Deep Residual Learning, CVPR 2016; torchvision (stride in the 3x3 convolution)",
	}, {
		Name: "vgg11", Task: "image classification", Input: []int64{1, 3, 224, 224}, Classes: 1000,
		Parameters: 132_860_000, MACs: 7_610_000_000, build: vgg11,
		Source: "Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015; torchvision",
	},
}

// Names lists the architectures, sorted.
func Names() []string {
	var names []string
	for _, a := range architectures {
		names = append(names, a.Name)
	}
	return names
}

// Info is what is published about an architecture, or an error that matches
// ErrUnknown and lists the names there are.
func Info(name string) (Architecture, error) {
	i := slices.IndexFunc(architectures, func(a Architecture) bool { return a.Name == name })
	if i < 0 {
		return Architecture{}, fmt.Errorf("network %q is %w; there are %s", name, ErrUnknown, strings.Join(Names(), ", "))
	}
	a := architectures[i]
	a.Input = slices.Clone(a.Input)
	return a, nil
}

// Build makes the ONNX file of an architecture, with weights drawn from seed
// so that activations keep their scale through the network. The same name and
// seed give the same bytes on every machine. The output is called "output",
// the input "input".
func Build(name string, seed uint64) ([]byte, error) {
	a, err := Info(name)
	if err != nil {
		return nil, err
	}
	n := newNet(name, seed)
	a.build(n, n.input(int(a.Input[1]), int(a.Input[2]), int(a.Input[3])))
	return n.bytes("output", 1, a.Classes)
}
