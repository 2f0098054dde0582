//! The recurrent language model of the BNG paper (§4.4), as Zaremba et al. (2014) drop out.

use super::Model;
use tch::Tensor;
use tch::nn::{self, EmbeddingConfig, LSTM, ModuleT, RNN, RNNConfig};
use tch_svgd::Layers;

/// Words embedded in 200 dimensions, two LSTM layers of 200, and the logits of the next word at each.
#[derive(Debug)]
pub struct Language {
    embedding: nn::Embedding,
    layers: [LSTM; 2],
    head: Box<dyn nn::Module>,
}

/// The numbers of words, as many as the Penn Treebank of language models has.
pub const VOCABULARY: i64 = 10_000;
const WIDTH: i64 = 200;
const DROPPED: f64 = 0.5;

impl Model for Language {
    const NAME: &'static str = "two LSTM layers of 200";
    const PARAMETERS: usize = 2_645_210;
    const AS_SVGDS_AUTHORS: bool = false;
    const DROPOUT: bool = true;

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        let lstm = |name: &str| nn::lstm(p / name, WIDTH, WIDTH, RNNConfig { batch_first: true, ..Default::default() });
        Self {
            embedding: nn::embedding(p / "embedding", VOCABULARY, WIDTH, EmbeddingConfig::default()),
            layers: [lstm("lstm1"), lstm("lstm2")],
            head: Box::new(layers.linear(p / "head", WIDTH, classes, Default::default())),
        }
    }
}

impl ModuleT for Language {
    /// Numbers of words `[n, length]` to the logits of those that follow, `[n, length, classes]`. Each sample begins with a
    /// state of zeros.
    fn forward_t(&self, words: &Tensor, train: bool) -> Tensor {
        let embedded = self.embedding.forward_t(words, train).dropout(DROPPED, train);
        let seen = self.layers.iter().fold(embedded, |xs, layer| layer.seq(&xs).0.dropout(DROPPED, train));
        self.head.forward(&seen.contiguous())
    }
}
