package zoo

// vgg11 is configuration A of Simonyan and Zisserman (2015), without BatchNormalization.
func vgg11(n *net, x feature) feature {
	for _, stage := range [][]int{{64}, {128}, {256, 256}, {512, 512}, {512, 512}} {
		for _, c := range stage {
			x = n.relu(n.conv(x, conv{out: c, k: 3, bias: true}))
		}
		x = n.pool("MaxPool", x, 2, 2, true)
	}
	x = n.relu(n.dense(n.flatten(x), 4096))
	return n.dense(n.relu(n.dense(x, 4096)), 1000)
}

// resnet is the ImageNet ResNet with the stride in the 3x3 convolution, as
// torchvision builds it; block makes one residual branch.
func resnet(block func(n *net, x feature, width, stride int) feature, depths ...int) func(*net, feature) feature {
	return func(n *net, x feature) feature {
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
		return n.classify(x, 1000)
	}
}

func basicBlock(n *net, x feature, width, stride int) feature {
	y := n.convNormRelu(x, conv{out: width, k: 3, stride: stride})
	return n.norm(n.conv(y, conv{out: width, k: 3}), residualGain)
}

func bottleneck(n *net, x feature, width, stride int) feature {
	y := n.convNormRelu(x, conv{out: width, k: 1})
	y = n.convNormRelu(y, conv{out: width, k: 3, stride: stride})
	return n.norm(n.conv(y, conv{out: 4 * width, k: 1}), residualGain)
}

// residualGain scales residual branches so that sums of many stay of order one.
const residualGain = 0.3

// residual adds a branch to its input, projected where the shapes differ.
func (n *net) residual(x, branch feature, stride int) feature {
	if x.c != branch.c || stride != 1 {
		x = n.norm(n.conv(x, conv{out: branch.c, k: 1, stride: stride}), 0.7)
	}
	return n.relu(n.add(branch, x))
}

// inverted is the inverted bottleneck of MobileNetV2: expand, depthwise,
// project, with a shortcut where shapes allow; activate is its rectifier.
func (n *net) inverted(x feature, out, k, stride, expand int, activate func(feature) feature) feature {
	y := x
	if expand != 1 {
		y = activate(n.norm(n.conv(y, conv{out: x.c * expand, k: 1}), 1))
	}
	y = activate(n.norm(n.conv(y, conv{out: y.c, k: k, stride: stride, groups: y.c}), 1))
	if stride != 1 || out != x.c {
		return n.norm(n.conv(y, conv{out: out, k: 1}), 1)
	}
	return n.add(x, n.norm(n.conv(y, conv{out: out, k: 1}), residualGain))
}

func mobileNetV2(n *net, x feature) feature {
	x = n.convNormRelu6(x, conv{out: 32, k: 3, stride: 2})
	for _, s := range []struct{ expand, out, repeat, stride int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	} {
		for i := range s.repeat {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			x = n.inverted(x, s.out, 3, stride, s.expand, n.relu6)
		}
	}
	return n.classify(n.convNormRelu6(x, conv{out: 1280, k: 1}), 1000)
}

func fbnetC(n *net, x feature) feature {
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
			x = n.inverted(x, b.out, b.k, stride, b.expand, n.relu)
		}
	}
	return n.classify(n.convNormRelu(x, conv{out: 1984, k: 1}), 1000)
}

func dsCNN(n *net, x feature) feature {
	x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 10, kw: 4, stride: 2, bias: true}), 1))
	for range 4 {
		x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 3, groups: 64, bias: true}), 1))
		x = n.relu(n.norm(n.conv(x, conv{out: 64, k: 1, bias: true}), 1))
	}
	return n.classify(x, 12)
}

// inceptionV3 follows torchvision's inception_v3 without its auxiliary head.
func inceptionV3(n *net, x feature) feature {
	c := n.convNormRelu
	x = c(x, conv{out: 32, k: 3, stride: 2, valid: true})
	x = c(x, conv{out: 32, k: 3, valid: true})
	x = n.pool("MaxPool", c(x, conv{out: 64, k: 3}), 3, 2, true)
	x = c(x, conv{out: 80, k: 1})
	x = n.pool("MaxPool", c(x, conv{out: 192, k: 3, valid: true}), 3, 2, true)
	for _, pooled := range []int{32, 64, 64} { // 35x35
		x = n.concat(
			c(x, conv{out: 64, k: 1}),
			c(c(x, conv{out: 48, k: 1}), conv{out: 64, k: 5}),
			c(c(c(x, conv{out: 64, k: 1}), conv{out: 96, k: 3}), conv{out: 96, k: 3}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: pooled, k: 1}))
	}
	x = n.concat(
		c(x, conv{out: 384, k: 3, stride: 2, valid: true}),
		c(c(c(x, conv{out: 64, k: 1}), conv{out: 96, k: 3}), conv{out: 96, k: 3, stride: 2, valid: true}),
		n.pool("MaxPool", x, 3, 2, true))
	for _, m := range []int{128, 160, 160, 192} { // 17x17
		long := c(c(c(x, conv{out: m, k: 1}), conv{out: m, k: 7, kw: 1}), conv{out: m, k: 1, kw: 7})
		x = n.concat(
			c(x, conv{out: 192, k: 1}),
			c(c(c(x, conv{out: m, k: 1}), conv{out: m, k: 1, kw: 7}), conv{out: 192, k: 7, kw: 1}),
			c(c(long, conv{out: m, k: 7, kw: 1}), conv{out: 192, k: 1, kw: 7}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: 192, k: 1}))
	}
	x = n.concat(
		c(c(x, conv{out: 192, k: 1}), conv{out: 320, k: 3, stride: 2, valid: true}),
		c(c(c(c(x, conv{out: 192, k: 1}), conv{out: 192, k: 1, kw: 7}), conv{out: 192, k: 7, kw: 1}), conv{out: 192, k: 3, stride: 2, valid: true}),
		n.pool("MaxPool", x, 3, 2, true))
	for range 2 { // 8x8
		a := c(x, conv{out: 384, k: 1})
		b := c(c(x, conv{out: 448, k: 1}), conv{out: 384, k: 3})
		x = n.concat(
			c(x, conv{out: 320, k: 1}),
			c(a, conv{out: 384, k: 1, kw: 3}), c(a, conv{out: 384, k: 3, kw: 1}),
			c(b, conv{out: 384, k: 1, kw: 3}), c(b, conv{out: 384, k: 3, kw: 1}),
			c(n.pool("AveragePool", x, 3, 1, false), conv{out: 192, k: 1}))
	}
	return n.classify(x, 1000)
}
