package zoo

// vgg11 is configuration A of Simonyan and Zisserman (2015), without BatchNormalization.
func vgg11(n *net, x tensor) {
	for _, stage := range [][]int{{64}, {128}, {256, 256}, {512, 512}, {512, 512}} {
		for _, c := range stage {
			x = n.relu(n.conv(x, conv{out: c, k: 3, bias: true}))
		}
		x = n.pool("MaxPool", x, 2, 2, true)
	}
	x = n.relu(n.dense(n.flatten(x), 4096))
	n.output("output", n.dense(n.relu(n.dense(x, 4096)), 1000))
}

// resnet is the ImageNet ResNet with the stride in the 3x3 convolution, as torchvision builds it.
func resnet(block branch, depths ...int) func(*net, tensor) {
	return func(n *net, x tensor) { n.classify(n.resnetBody(x, block, depths...), 1000) }
}

// branch makes the residual branch of one ResNet block.
type branch func(n *net, x tensor, width, stride int) tensor

// resnetBody is a ResNet up to its last feature map.
func (n *net) resnetBody(x tensor, block branch, depths ...int) tensor {
	x = n.pool("MaxPool", n.convNormRelu(x, conv{out: 64, k: 7, stride: 2}), 3, 2, false)
	for stage, depth := range depths {
		for i := range depth {
			stride := 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			x = n.residual(x, block(n, x, 64<<stage, stride), stride)
		}
	}
	return x
}

func basicBlock(n *net, x tensor, width, stride int) tensor {
	y := n.convNormRelu(x, conv{out: width, k: 3, stride: stride})
	return n.norm(n.conv(y, conv{out: width, k: 3}), residualGain)
}

func bottleneck(n *net, x tensor, width, stride int) tensor {
	y := n.convNormRelu(x, conv{out: width, k: 1})
	y = n.convNormRelu(y, conv{out: width, k: 3, stride: stride})
	return n.norm(n.conv(y, conv{out: 4 * width, k: 1}), residualGain)
}

// residualGain scales residual branches so that sums of many stay of order one.
const residualGain = 0.3

// residual adds a branch to its input, projected where the shapes differ.
func (n *net) residual(x, branch tensor, stride int) tensor {
	if x.c() != branch.c() || stride != 1 {
		x = n.norm(n.conv(x, conv{out: branch.c(), k: 1, stride: stride}), 0.7)
	}
	return n.relu(n.combine("Add", branch, x))
}

// inverted is the inverted bottleneck of MobileNetV2: expand, depthwise, project, with a shortcut where shapes allow;
// activate is its rectifier. expanded is what the depthwise convolution reads.
func (n *net) inverted(x tensor, out, k, stride, expand int, activate func(tensor) tensor) (y, expanded tensor) {
	expanded = x
	if expand != 1 {
		expanded = activate(n.norm(n.conv(x, conv{out: x.c() * expand, k: 1}), 1))
	}
	y = activate(n.norm(n.conv(expanded, conv{out: expanded.c(), k: k, stride: stride, groups: expanded.c()}), 1))
	if stride != 1 || out != x.c() {
		return n.norm(n.conv(y, conv{out: out, k: 1}), 1), expanded
	}
	return n.combine("Add", x, n.norm(n.conv(y, conv{out: out, k: 1}), residualGain)), expanded
}

func mobileNetV2(n *net, x tensor) {
	x, _ = n.mobileNetV2Body(x)
	n.classify(x, 1000)
}

// mobileNetV2Body is MobileNetV2 up to its last feature map. fine is the last
// map of twice that size, the expansion inside the block that halves it.
func (n *net) mobileNetV2Body(x tensor) (last, fine tensor) {
	x = n.convNormRelu6(x, conv{out: 32, k: 3, stride: 2})
	for _, s := range []struct{ expand, out, repeat, stride int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	} {
		for i := range s.repeat {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			var expanded tensor
			x, expanded = n.inverted(x, s.out, 3, stride, s.expand, n.relu6)
			if stride == 2 {
				fine = expanded
			}
		}
	}
	return n.convNormRelu6(x, conv{out: 1280, k: 1}), fine
}

// ssdLite is the SSDLite of the TensorFlow Object Detection API on MobileNetV2: separable extra layers and heads, three
// anchors per cell of the finest map and six elsewhere. classes counts the background.
func ssdLite(classes int) func(*net, tensor) {
	return func(n *net, x tensor) {
		x, fine := n.mobileNetV2Body(x)
		maps := []tensor{fine, x}
		for _, c := range []int{512, 256, 256, 128} {
			x = n.separable6(n.convNormRelu6(x, conv{out: c / 2, k: 1}), 2)
			x = n.convNormRelu6(x, conv{out: c, k: 1})
			maps = append(maps, x)
		}
		var scores, boxes []tensor
		for i, f := range maps {
			anchors := 6
			if i == 0 {
				anchors = 3
			}
			scores = append(scores, n.perAnchor(f, anchors, classes))
			boxes = append(boxes, n.perAnchor(f, anchors, 4))
		}
		n.output("scores", n.join(1, scores...))
		n.output("boxes", n.join(1, boxes...))
	}
}

// separable6 is the depthwise half of a separable convolution.
func (n *net) separable6(x tensor, stride int) tensor {
	return n.convNormRelu6(x, conv{out: x.c(), k: 3, stride: stride, groups: x.c()})
}

// perAnchor predicts values numbers for each anchor of each cell: [1, cells x anchors, values].
func (n *net) perAnchor(x tensor, anchors, values int) tensor {
	y := n.conv(n.separable6(x, 1), conv{out: anchors * values, k: 1, bias: true})
	return n.reshape(n.transpose(y, 0, 2, 3, 1), 1, y.h()*y.w()*anchors, values)
}

// sp2Dense is the RGB-D network of Ma and Karaman (2018): a ResNet-18 without
// its head, four up-projections and a bilinear resize to the input's size.
func sp2Dense(n *net, x tensor) {
	y := n.resnetBody(x, basicBlock, 2, 2, 2, 2)
	y = n.norm(n.conv(y, conv{out: y.c() / 2, k: 1}), 1)
	for range 4 {
		y = n.upProject(y)
	}
	n.output("output", n.resize(n.conv(y, conv{out: 1, k: 3}), x.h(), x.w()))
}

// upProject doubles a feature map's size and halves its channels, with a
// shortcut that is projected as well (Laina et al., 2016).
func (n *net) upProject(x tensor) tensor {
	x = n.unpool(x)
	const gain = 2 // three in four inputs of the 5x5 convolutions are zero
	y := n.relu(n.norm(n.conv(x, conv{out: x.c() / 2, k: 5}), gain))
	y = n.norm(n.conv(y, conv{out: x.c() / 2, k: 3}), residualGain)
	return n.relu(n.combine("Add", y, n.norm(n.conv(x, conv{out: x.c() / 2, k: 5}), gain)))
}

func fbnetC(n *net, x tensor) {
	x = n.convNormRelu(x, conv{out: 16, k: 3, stride: 2})
	for _, b := range []struct{ repeat, k, stride, expand, out int }{
		{1, 3, 1, 1, 16},
		{1, 3, 2, 6, 24}, {2, 3, 1, 1, 24},
		{1, 5, 2, 6, 32}, {1, 5, 1, 3, 32}, {1, 5, 1, 6, 32}, {1, 3, 1, 6, 32},
		{1, 5, 2, 6, 64}, {1, 5, 1, 3, 64}, {2, 5, 1, 6, 64},
		{3, 5, 1, 6, 112}, {1, 5, 1, 3, 112},
		{4, 5, 2, 6, 184}, {1, 3, 1, 6, 352},
	} {
		for i := range b.repeat {
			stride := 1
			if i == 0 {
				stride = b.stride
			}
			x, _ = n.inverted(x, b.out, b.k, stride, b.expand, n.relu)
		}
	}
	n.classify(n.convNormRelu(x, conv{out: 1984, k: 1}), 1000)
}

func dsCNN(n *net, x tensor) {
	x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 10, kw: 4, stride: 2, bias: true}), 1))
	for range 4 {
		x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 3, groups: 64, bias: true}), 1))
		x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 1, bias: true}), 1))
	}
	n.classify(x, 12)
}

// inceptionV3 follows torchvision's inception_v3 without its auxiliary head.
func inceptionV3(n *net, x tensor) {
	c := n.convNormRelu
	x = c(x, conv{out: 32, k: 3, stride: 2, valid: true})
	x = c(x, conv{out: 32, k: 3, valid: true})
	x = n.pool("MaxPool", c(x, conv{out: 64, k: 3}), 3, 2, true)
	x = c(x, conv{out: 80, k: 1})
	x = n.pool("MaxPool", c(x, conv{out: 192, k: 3, valid: true}), 3, 2, true)
	for _, pooled := range []int{32, 64, 64} { // 35x35
		x = n.join(1,
			c(x, conv{out: 64, k: 1}),
			c(c(x, conv{out: 48, k: 1}), conv{out: 64, k: 5}),
			c(c(c(x, conv{out: 64, k: 1}), conv{out: 96, k: 3}), conv{out: 96, k: 3}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: pooled, k: 1}))
	}
	x = n.join(1,
		c(x, conv{out: 384, k: 3, stride: 2, valid: true}),
		c(c(c(x, conv{out: 64, k: 1}), conv{out: 96, k: 3}), conv{out: 96, k: 3, stride: 2, valid: true}),
		n.pool("MaxPool", x, 3, 2, true))
	for _, m := range []int{128, 160, 160, 192} { // 17x17
		long := c(c(c(x, conv{out: m, k: 1}), conv{out: m, k: 7, kw: 1}), conv{out: m, k: 1, kw: 7})
		x = n.join(1,
			c(x, conv{out: 192, k: 1}),
			c(c(c(x, conv{out: m, k: 1}), conv{out: m, k: 1, kw: 7}), conv{out: 192, k: 7, kw: 1}),
			c(c(long, conv{out: m, k: 7, kw: 1}), conv{out: 192, k: 1, kw: 7}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: 192, k: 1}))
	}
	x = n.join(1,
		c(c(x, conv{out: 192, k: 1}), conv{out: 320, k: 3, stride: 2, valid: true}),
		c(c(c(c(x, conv{out: 192, k: 1}), conv{out: 192, k: 1, kw: 7}), conv{out: 192, k: 7, kw: 1}),
			conv{out: 192, k: 3, stride: 2, valid: true}),
		n.pool("MaxPool", x, 3, 2, true))
	for range 2 { // 8x8
		a := c(x, conv{out: 384, k: 1})
		b := c(c(x, conv{out: 448, k: 1}), conv{out: 384, k: 3})
		x = n.join(1,
			c(x, conv{out: 320, k: 1}),
			c(a, conv{out: 384, k: 1, kw: 3}), c(a, conv{out: 384, k: 3, kw: 1}),
			c(b, conv{out: 384, k: 1, kw: 3}), c(b, conv{out: 384, k: 3, kw: 1}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: 192, k: 1}))
	}
	n.classify(x, 1000)
}
