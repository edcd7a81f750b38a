package zoo

import "slices"

// The hand's graph: the wrist, and four joints along each of five fingers. Each joint but the wrist ends a bone; the
// surface is a tube around each bone, of rings of vertices.
const (
	fingers, jointsPerFinger = 5, 4
	joints                   = 1 + fingers*jointsPerFinger
	bones                    = joints - 1
	rings, ringVertices      = 8, 8
	boneVertices             = rings * ringVertices
	vertices                 = bones * boneVertices
)

// handPose is our own network in the spirit of the graph-convolution hand of Ge et al. (2019): heatmaps of the joints,
// the features under them as nodes of the skeleton's graph, and from the bones a surface mesh.
func handPose(n *net, x tensor) {
	x = n.resnetBody(x, basicBlock, 2, 2, 2)
	fine := n.upProject(n.upProject(x))
	heat := n.output("heatmaps", n.conv(fine, conv{out: joints, k: 1, bias: true}))

	cells := fine.h() * fine.w()
	places := n.softmax(n.reshape(heat, 1, joints, cells))
	local := n.matmul(places, n.transpose(n.reshape(fine, 1, fine.c(), cells), 0, 2, 1))
	global := n.dense(n.flatten(n.globalAverage(x)), joints*fine.c())
	nodes := n.join(2, local, n.reshape(global, 1, joints, fine.c()))
	for range 3 {
		nodes = n.combine("Add", nodes, n.relu(n.graphConv(nodes, skeleton(), nodes.dim(-1))))
	}
	n.output("pose", n.linear(nodes, 3))

	ends := n.join(2, n.gather(nodes, 1, boneParents()), n.slice(nodes, 1, 1, joints))
	mesh := n.reshape(n.relu(n.linear(ends, boneVertices*32)), 1, vertices, 32)
	for range 3 {
		mesh = n.combine("Add", mesh, n.relu(n.graphConv(mesh, tubes(), mesh.dim(-1))))
	}
	n.output("mesh", n.linear(mesh, 3))
}

// graphConv is a linear map of the features of each node and its neighbours, in a fixed order, as spiral convolutions
// do (Lim et al., 2018). near lists for each node the same number of nodes.
func (n *net) graphConv(x tensor, near [][]int, out int) tensor {
	y := n.gather(x, 1, slices.Concat(near...))
	return n.linear(n.reshape(y, 1, len(near), len(near[0])*x.dim(-1)), out)
}

// parent is the joint before one on the way from the wrist.
func parent(joint int) int {
	if (joint-1)%jointsPerFinger == 0 {
		return 0
	}
	return joint - 1
}

func boneParents() []int {
	var from []int
	for joint := 1; joint < joints; joint++ {
		from = append(from, parent(joint))
	}
	return from
}

// skeleton lists each joint's neighbours: itself, then those that bones join it
// to, then itself again where there are fewer than the wrist's.
func skeleton() [][]int {
	near := make([][]int, joints)
	for joint := range near {
		near[joint] = []int{joint}
	}
	for joint := 1; joint < joints; joint++ {
		p := parent(joint)
		near[joint], near[p] = append(near[joint], p), append(near[p], joint)
	}
	for joint := range near {
		for len(near[joint]) < 1+fingers {
			near[joint] = append(near[joint], joint)
		}
	}
	return near
}

// tubes lists each vertex's neighbours on its bone's tube: itself, two on its
// ring, and one on the rings before and after, or itself at an end.
func tubes() [][]int {
	var near [][]int
	for v := range vertices {
		ring, at := v%boneVertices/ringVertices, v%ringVertices
		begin := v - at
		around := func(step int) int { return begin + (at+step+ringVertices)%ringVertices }
		before, after := v, v
		if ring > 0 {
			before = v - ringVertices
		}
		if ring < rings-1 {
			after = v + ringVertices
		}
		near = append(near, []int{v, around(-1), around(1), before, after})
	}
	return near
}
