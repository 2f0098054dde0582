//! The one-layer convolutional network for sentences (Kim 2014) of the BNG paper (§4.5).

use super::Model;
use tch::Tensor;
use tch::nn::{self, Module, ModuleT};
use tch_svgd::Layers;

/// Words embedded in 128 dimensions, 128 features of each of three, four and five words in a row, the largest of each, and
/// classes.
#[derive(Debug)]
pub struct SentenceNet {
    embedding: nn::Embedding,
    convolutions: Vec<(i64, Box<dyn Module>)>,
    head: Box<dyn Module>,
}

/// The numbers of words: room for all that the sentences have.
pub const VOCABULARY: i64 = 20_000;
const WIDTH: i64 = 128;
const FEATURES: i64 = 128;
const WORDS: [i64; 3] = [3, 4, 5];
const DROPPED: f64 = 0.5;

impl Model for SentenceNet {
    const NAME: &'static str = "convolution over words";
    const PARAMETERS: usize = 2_760_842;
    const AS_SVGDS_AUTHORS: bool = false;
    const DROPOUT: bool = true;

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        let convolutions = WORDS.iter().map(|&words| -> (i64, Box<dyn Module>) {
            let path = p / format!("words{words}");
            (words, Box::new(layers.linear(path, words * WIDTH, FEATURES, Default::default())))
        });
        Self {
            embedding: nn::embedding(p / "embedding", VOCABULARY, WIDTH, Default::default()),
            convolutions: convolutions.collect(),
            head: Box::new(layers.linear(p / "head", WORDS.len() as i64 * FEATURES, classes, Default::default())),
        }
    }
}

impl ModuleT for SentenceNet {
    /// Numbers of words `[n, length]` to logits `[n, classes]`.
    fn forward_t(&self, words: &Tensor, train: bool) -> Tensor {
        let embedded = self.embedding.forward_t(words, train);
        let features = self.convolutions.iter().map(|(words, convolution)| {
            // A convolution along one dimension is a linear layer on what it sees at each place: [n, places, words, width].
            let windows = embedded.unfold(1, *words, 1).transpose(2, 3).flatten(2, 3);
            convolution.forward(&windows).relu().amax([1i64].as_slice(), false)
        });
        self.head.forward(&Tensor::cat(&features.collect::<Vec<_>>(), 1).dropout(DROPPED, train))
    }
}
