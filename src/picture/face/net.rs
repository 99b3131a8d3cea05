//! BlazeFace (short range): 21 convolutions over 128x128 pixels, on one thread.
//!
//! Plain loops over arrays of eight numbers, which rustc turns into SIMD instructions of any processor. Channels are
//! padded to a multiple of eight with zeros.

use super::model::{self, Convolution};

/// Width and height of the input in pixels.
pub(super) const INPUT_SIDE: usize = 128;
/// Candidates for a face: two at each cell of a 16x16 grid, then six at each cell of an 8x8 grid.
pub(super) const CANDIDATES: usize = 16 * 16 * 2 + 8 * 8 * 6;
/// Numbers that describe a candidate: centre, size, then x and y of six landmarks, relative to its cell.
pub(super) const BOX_LENGTH: usize = 16;

const LANES: usize = 8;
type Lane = [f32; LANES];

/// Kernel side of the first convolution.
const FIRST_KERNEL: usize = 5;
/// Numbers under the kernel of the first convolution.
const FIRST_INPUTS: usize = FIRST_KERNEL * FIRST_KERNEL * 3;
const FIRST_OUTPUTS: usize = 24;
/// Side of the input with the padding of the first convolution: 1 before, 2 behind.
const PADDED_SIDE: usize = INPUT_SIDE + 3;

/// Inputs, outputs and stride of each block.
const BLOCKS: [(usize, usize, usize); 16] = [
    (24, 24, 1),
    (24, 28, 1),
    (28, 32, 2),
    (32, 36, 1),
    (36, 42, 1),
    (42, 48, 2),
    (48, 56, 1),
    (56, 64, 1),
    (64, 72, 1),
    (72, 80, 1),
    (80, 88, 1),
    (88, 96, 2),
    (96, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
];
/// Block after which the 16x16 grid is complete.
const LAST_BLOCK_OF_16: usize = 10;

/// The net with its weights.
#[derive(Debug)]
pub(super) struct Net {
    first: First,
    blocks: Vec<Block>,
    scores: [Pointwise; 2],
    boxes: [Pointwise; 2],
}

/// Input, buffers and results of the net, to be used again for the next input.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Input rows of [`PADDED_SIDE`] pixels.
    input: Vec<f32>,
    planes: [Plane; 2],
    row: Vec<f32>,
    out: Vec<Lane>,
    /// Score of each candidate, before the sigmoid.
    pub(super) scores: Vec<f32>,
    /// [`BOX_LENGTH`] numbers for each candidate, in input pixels.
    pub(super) boxes: Vec<f32>,
}

impl Workspace {
    pub(super) fn new() -> Self {
        Self {
            input: vec![0.0; PADDED_SIDE * PADDED_SIDE * 3],
            planes: Default::default(),
            row: Vec::new(),
            out: Vec::new(),
            scores: Vec::with_capacity(CANDIDATES),
            boxes: Vec::with_capacity(CANDIDATES * BOX_LENGTH),
        }
    }

    /// Row of the input: [`INPUT_SIDE`] RGB pixels from -1 (black) to 1.
    pub(super) fn input_row(&mut self, y: usize) -> &mut [f32] {
        &mut self.input[((y + 1) * PADDED_SIDE + 1) * 3..][..INPUT_SIDE * 3]
    }
}

impl Net {
    /// The net with the weights of the built-in model.
    pub(super) fn built_in() -> Self {
        model::convolutions(model::BYTES).and_then(Self::new).expect("the built-in model is complete")
    }

    /// `None` if these are not the convolutions of the net.
    fn new(convolutions: Vec<Convolution>) -> Option<Self> {
        let mut next = convolutions.into_iter();
        let first = First::new(next.next()?)?;
        let mut blocks = Vec::new();
        for (inputs, outputs, stride) in BLOCKS {
            let depthwise = Depthwise::new(&next.next()?, inputs)?;
            let pointwise = Pointwise::new(&next.next()?, (inputs, outputs))?;
            blocks.push(Block { depthwise, pointwise, stride });
        }
        let mut head = |size| Pointwise::new(&next.next()?, size);
        let scores = [head((88, 2))?, head((96, 6))?];
        let boxes = [head((88, 2 * BOX_LENGTH))?, head((96, 6 * BOX_LENGTH))?];
        next.next().is_none().then_some(Self { first, blocks, scores, boxes })
    }

    /// Computes the scores and boxes of the input.
    pub(super) fn run(&self, workspace: &mut Workspace) {
        let Workspace { input, planes: [from, to], row, out, scores, boxes } = workspace;
        scores.clear();
        boxes.clear();
        self.first.apply(input, from, row);
        for (n, block) in self.blocks.iter().enumerate() {
            block.apply(from, to, row);
            std::mem::swap(from, to);
            let grid = match n {
                LAST_BLOCK_OF_16 => 0,
                _ if n + 1 == BLOCKS.len() => 1,
                _ => continue,
            };
            self.scores[grid].read_out(from, out, scores);
            self.boxes[grid].read_out(from, out, boxes);
        }
    }
}

/// Activations of a layer: a square of pixels with a border of one zero pixel.
#[derive(Debug, Default)]
struct Plane {
    side: usize,
    /// Lanes of a pixel.
    lanes: usize,
    data: Vec<Lane>,
}

impl Plane {
    fn reset(&mut self, side: usize, lanes: usize) {
        self.side = side;
        self.lanes = lanes;
        self.data.clear();
        self.data.resize((side + 2) * (side + 2) * lanes, [0.0; LANES]);
    }

    /// A row with its border; row 0 is the border above.
    fn bordered_row(&self, y: usize) -> &[Lane] {
        let length = (self.side + 2) * self.lanes;
        &self.data[y * length..][..length]
    }

    /// A row without its border.
    fn row(&self, y: usize) -> &[Lane] {
        &self.bordered_row(y + 1)[self.lanes..][..self.side * self.lanes]
    }

    fn row_mut(&mut self, y: usize) -> &mut [Lane] {
        let at = ((y + 1) * (self.side + 2) + 1) * self.lanes;
        &mut self.data[at..][..self.side * self.lanes]
    }
}

/// The first convolution: 5x5, stride 2, on RGB; then ReLU.
#[derive(Debug)]
struct First(Pointwise);

impl First {
    fn new(mut stored: Convolution) -> Option<Self> {
        if stored.shape != [FIRST_OUTPUTS, FIRST_KERNEL, FIRST_KERNEL, 3] {
            return None;
        }
        stored.shape = vec![FIRST_OUTPUTS, 1, 1, FIRST_INPUTS];
        Pointwise::new(&stored, (FIRST_INPUTS, FIRST_OUTPUTS)).map(Self)
    }

    /// Copies the pixels under the kernel together, so that it becomes a pointwise convolution.
    fn apply(&self, input: &[f32], to: &mut Plane, row: &mut Vec<f32>) {
        to.reset(INPUT_SIDE / 2, FIRST_OUTPUTS / LANES);
        row.resize(INPUT_SIDE / 2 * FIRST_INPUTS, 0.0);
        for y in 0..INPUT_SIDE / 2 {
            for (x, patch) in row.chunks_exact_mut(FIRST_INPUTS).enumerate() {
                for (ky, patch) in patch.chunks_exact_mut(FIRST_KERNEL * 3).enumerate() {
                    let at = ((2 * y + ky) * PADDED_SIDE + 2 * x) * 3;
                    patch.copy_from_slice(&input[at..at + FIRST_KERNEL * 3]);
                }
            }
            let out = to.row_mut(y);
            self.0.apply(row, FIRST_INPUTS, out);
            for out in out {
                *out = out.map(|value| value.max(0.0));
            }
        }
    }
}

/// A depthwise and a pointwise convolution, to which the input is added; then ReLU.
#[derive(Debug)]
struct Block {
    depthwise: Depthwise,
    pointwise: Pointwise,
    stride: usize,
}

impl Block {
    fn apply(&self, from: &Plane, to: &mut Plane, row: &mut Vec<f32>) {
        let side = from.side / self.stride;
        to.reset(side, self.pointwise.bias.len());
        row.resize(side * from.lanes * LANES, 0.0);
        for y in 0..side {
            self.depthwise.apply_row(from, (y, self.stride), row.as_chunks_mut().0);
            let lanes = to.lanes;
            let out = to.row_mut(y);
            self.pointwise.apply(row, from.lanes * LANES, out);
            self.add_input(from, y, (out, lanes));
        }
    }

    /// Adds the input pixel, or the maximum of four where the block halves the sides. Further channels get nothing.
    fn add_input(&self, from: &Plane, y: usize, (out, lanes): (&mut [Lane], usize)) {
        if self.stride == 1 {
            for (to, input) in out.chunks_exact_mut(lanes).zip(from.row(y).chunks_exact(from.lanes)) {
                add_and_relu(to, input.iter().copied());
            }
        } else {
            let pairs = |y| from.row(y).chunks_exact(2 * from.lanes);
            for ((to, above), below) in out.chunks_exact_mut(lanes).zip(pairs(2 * y)).zip(pairs(2 * y + 1)) {
                let largest = |n: usize| {
                    let (a, b) = (max(above[n], above[from.lanes + n]), max(below[n], below[from.lanes + n]));
                    max(a, b)
                };
                add_and_relu(to, (0..from.lanes).map(largest));
            }
        }
    }
}

fn add_and_relu(to: &mut [Lane], input: impl Iterator<Item = Lane>) {
    for (to, input) in to.iter_mut().zip(input) {
        for (to, input) in to.iter_mut().zip(input) {
            *to += input;
        }
    }
    for to in to {
        *to = to.map(|value| value.max(0.0));
    }
}

fn max(a: Lane, b: Lane) -> Lane {
    std::array::from_fn(|n| a[n].max(b[n]))
}

/// A 3x3 convolution of each channel by itself.
#[derive(Debug)]
struct Depthwise {
    /// For each lane, its nine taps.
    taps: Vec<[Lane; 9]>,
    bias: Vec<Lane>,
}

impl Depthwise {
    fn new(stored: &Convolution, channels: usize) -> Option<Self> {
        if stored.shape != [1, 3, 3, channels] {
            return None;
        }
        let mut taps = vec![[[0.0; LANES]; 9]; channels.div_ceil(LANES)];
        for (tap, weights) in stored.weights.chunks_exact(channels).enumerate() {
            for (channel, &weight) in weights.iter().enumerate() {
                taps[channel / LANES][tap][channel % LANES] = weight;
            }
        }
        Some(Self { taps, bias: lanes(&stored.bias) })
    }

    /// Computes row `y`. With stride 1 the picture is padded on all sides; with stride 2, as its side is even, only
    /// behind (the rule SAME of TensorFlow).
    fn apply_row(&self, from: &Plane, (y, stride): (usize, usize), out: &mut [Lane]) {
        let lanes = from.lanes;
        let skipped = stride - 1;
        let rows = [0, 1, 2].map(|ky| &from.bordered_row(stride * y + ky + skipped)[skipped * lanes..]);
        // Lane by lane: in the other order, rustc vectorises across lanes, which gathers single numbers.
        for (n, (taps, &bias)) in self.taps.iter().zip(&self.bias).enumerate() {
            let columns = rows.map(|row| &row[n..]);
            for (x, out) in out[n..].iter_mut().step_by(lanes).enumerate() {
                let mut sum = bias;
                for (row, taps) in columns.iter().zip(taps.as_chunks::<3>().0) {
                    let pixels = row[stride * x * lanes..].iter().step_by(lanes);
                    for (pixel, tap) in pixels.zip(taps) {
                        for k in 0..LANES {
                            sum[k] += pixel[k] * tap[k];
                        }
                    }
                }
                *out = sum;
            }
        }
    }
}

/// A 1x1 convolution.
#[derive(Debug)]
struct Pointwise {
    inputs: usize,
    outputs: usize,
    /// For each lane of outputs, the weights of each input.
    weights: Vec<Lane>,
    bias: Vec<Lane>,
}

/// Pixels that are computed together, so that each weight is loaded once for them.
const PIXELS: usize = 4;

impl Pointwise {
    fn new(stored: &Convolution, (inputs, outputs): (usize, usize)) -> Option<Self> {
        if stored.shape != [outputs, 1, 1, inputs] {
            return None;
        }
        let mut weights = vec![[0.0; LANES]; inputs * outputs.div_ceil(LANES)];
        for (output, row) in stored.weights.chunks_exact(inputs).enumerate() {
            for (input, &weight) in row.iter().enumerate() {
                weights[output / LANES * inputs + input][output % LANES] = weight;
            }
        }
        Some(Self { inputs, outputs, weights, bias: lanes(&stored.bias) })
    }

    /// Computes a multiple of [`PIXELS`] pixels, each at every `length` numbers.
    fn apply(&self, from: &[f32], length: usize, out: &mut [Lane]) {
        let out_lanes = self.bias.len();
        for (out, from) in out.chunks_exact_mut(PIXELS * out_lanes).zip(from.chunks_exact(PIXELS * length)) {
            let pixel = |n: usize| &from[n * length..][..self.inputs];
            let [a, b, c, d] = [pixel(0), pixel(1), pixel(2), pixel(3)];
            for (lane, (panel, &bias)) in self.weights.chunks_exact(self.inputs).zip(&self.bias).enumerate() {
                let mut sums = [bias; PIXELS];
                for ((((weights, &a), &b), &c), &d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
                    for (sum, value) in sums.iter_mut().zip([a, b, c, d]) {
                        for k in 0..LANES {
                            sum[k] += value * weights[k];
                        }
                    }
                }
                for (n, sum) in sums.into_iter().enumerate() {
                    out[n * out_lanes + lane] = sum;
                }
            }
        }
    }

    /// Appends the outputs of every pixel, without padding.
    fn read_out(&self, from: &Plane, out: &mut Vec<Lane>, to: &mut Vec<f32>) {
        out.resize(from.side * self.bias.len(), [0.0; LANES]);
        for y in 0..from.side {
            self.apply(from.row(y).as_flattened(), from.lanes * LANES, out);
            for pixel in out.chunks_exact(self.bias.len()) {
                to.extend_from_slice(&pixel.as_flattened()[..self.outputs]);
            }
        }
    }
}

/// Packs values into lanes, padded with zeros.
fn lanes(values: &[f32]) -> Vec<Lane> {
    let lane = |values: &[f32]| std::array::from_fn(|n| values.get(n).copied().unwrap_or(0.0));
    values.chunks(LANES).map(lane).collect()
}
