package zoo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown is what Info and Build answer for a name that is not in Names.
var ErrUnknown = errors.New("not in the zoo")

// Architecture describes a network and the size it must have.
type Architecture struct {
	Name       string
	Task       string
	Input      []int64 // shape, batch first
	Parameters int64   // weights, biases, scales; no running statistics
	MACs       int64   // multiply-accumulates of one inference
	Published  bool    // both counts are published; else they are our own, as Source explains
	Trained    bool    // the weights are trained; else they are drawn from a seed
	Accuracy   float64 // of a trained network: the share it gets right of the first AccuracyImages of glyphs.Test
	Source     string  // where the architecture and the counts come from

	build func(*net, tensor) // nil where trained
}

// AccuracyImages is how many images Architecture.Accuracy was measured on.
const AccuracyImages = 10_000

var architectures = []Architecture{
	{
		Name: "ds_cnn_kws", Task: "keyword spotting", Input: []int64{1, 1, 49, 10},
		Parameters: 23_756, MACs: 2_656_768, Published: true, build: dsCNN,
		Source: "Zhang et al., Hello Edge, 2017; MLPerf Tiny keyword spotting reference",
	}, {
		Name: "fbnetc", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 5_570_000, MACs: 375_000_000, Published: true, build: fbnetC,
		Source: "Wu et al., FBNet, CVPR 2019; layer list as in timm fbnetc_100",
	}, {
		Name: "glyph_mobile", Task: glyphTask, Input: []int64{1, 1, 48, 48},
		Parameters: 210_937, MACs: 18_445_824, Trained: true, Accuracy: 0.9912,
		Source: "our own, of the inverted bottlenecks of Sandler et al., MobileNetV2, CVPR 2018; " + glyphSource,
	}, {
		Name: "glyph_resnet", Task: glyphTask, Input: []int64{1, 1, 48, 48},
		Parameters: 386_285, MACs: 38_215_296, Trained: true, Accuracy: 0.9924,
		Source: "our own, of the basic blocks of He et al., Deep Residual Learning, CVPR 2016; " + glyphSource,
	}, {
		Name: "glyph_vgg", Task: glyphTask, Input: []int64{1, 1, 48, 48},
		Parameters: 756_381, MACs: 51_153_120, Trained: true, Accuracy: 0.9938,
		Source: "our own, plain 3x3 convolutions as in Simonyan and Zisserman, Very Deep Convolutional Networks, " +
			"ICLR 2015; " + glyphSource,
	}, {
		Name: "glyph_vit", Task: glyphTask, Input: []int64{1, 1, 48, 48},
		Parameters: 593_046, MACs: 29_920_896, Trained: true, Accuracy: 0.9902,
		Source: "our own, of the encoder blocks of Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, " +
			"behind convolutions as in Xiao et al., Early Convolutions Help Transformers See Better, NeurIPS 2021; " +
			glyphSource,
	}, {
		Name: "hand_pose", Task: "hand shape and pose estimation", Input: []int64{1, 3, 256, 256},
		Parameters: 6_202_139, MACs: 5_537_906_560, build: handPose,
		Source: "our own reconstruction in the spirit of Ge et al., 3D Hand Shape and Pose Estimation, CVPR 2019, " +
			"and XRBench's hand tracking; no published count applies, these are our own",
	}, {
		Name: "inceptionv3", Task: "image classification", Input: []int64{1, 3, 299, 299},
		Parameters: 23_830_000, MACs: 5_710_000_000, Published: true, build: inceptionV3,
		Source: "Szegedy et al., Rethinking the Inception Architecture, CVPR 2016; torchvision, without the auxiliary head",
	}, {
		Name: "mobilenetv2", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 3_500_000, MACs: 300_000_000, Published: true, build: mobileNetV2,
		Source: "Sandler et al., MobileNetV2, CVPR 2018; torchvision",
	}, {
		Name: "mobilenetv2_ssdlite", Task: "object detection", Input: []int64{1, 3, 300, 300},
		Parameters: 3_355_833, MACs: 645_249_776, build: ssdLite(21),
		Source: "Sandler et al., MobileNetV2, CVPR 2018; layers of TensorFlow's ssdlite_mobilenet_v2. For 21 classes " +
			"we know of no published count; these are our own, of the layers that with 91 classes meet Open Model Zoo's " +
			"4.475 M and 1.525 GFLOPs",
	}, {
		Name: "resnet18", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 11_690_000, MACs: 1_810_000_000, Published: true, build: resnet(basicBlock, 2, 2, 2, 2),
		Source: "He et al., Deep Residual Learning, CVPR 2016; torchvision",
	}, {
		Name: "resnet50", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 25_560_000, MACs: 4_090_000_000, Published: true, build: resnet(bottleneck, 3, 4, 6, 3),
		Source: "He et al., Deep Residual Learning, CVPR 2016; torchvision (stride in the 3x3 convolution)",
	}, {
		Name: "sp2dense", Task: "depth completion", Input: []int64{1, 4, 228, 304},
		Parameters: 13_684_656, MACs: 5_003_243_520, build: sp2Dense,
		Source: "Ma and Karaman, Sparse-to-Dense, ICRA 2018; layers as in the authors' PyTorch code with ResNet-18 and " +
			"UpProj. We know of no published count; these follow from the layers by hand",
	}, {
		Name: "swin_tiny", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 28_288_354, MACs: 4_490_000_000, Published: true, build: swin(96, 2, 2, 6, 2),
		Source: "Liu et al., Swin Transformer, ICCV 2021; torchvision swin_t",
	}, {
		Name: "vgg11", Task: "image classification", Input: []int64{1, 3, 224, 224},
		Parameters: 132_860_000, MACs: 7_610_000_000, Published: true, build: vgg11,
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

// Info describes an architecture, or returns an error that matches ErrUnknown and lists the names there are.
func Info(name string) (Architecture, error) {
	i := slices.IndexFunc(architectures, func(a Architecture) bool { return a.Name == name })
	if i < 0 {
		return Architecture{}, fmt.Errorf("network %q is %w; there are %s", name, ErrUnknown, strings.Join(Names(), ", "))
	}
	a := architectures[i]
	a.Input = slices.Clone(a.Input)
	return a, nil
}

// Build makes the ONNX file of an architecture, with weights drawn from seed so that activations keep their scale
// through the network. The same name and seed give the same bytes on every machine. A trained network has the weights
// it was trained to, whatever the seed. The input is called "input"; a single output is called "output", several after
// what they hold.
func Build(name string, seed uint64) ([]byte, error) {
	a, err := Info(name)
	if err != nil {
		return nil, err
	}
	if a.Trained {
		return trained.ReadFile("trained/" + name + ".onnx")
	}
	n := newNet(name, seed)
	a.build(n, n.input(int(a.Input[1]), int(a.Input[2]), int(a.Input[3])))
	return n.bytes()
}
