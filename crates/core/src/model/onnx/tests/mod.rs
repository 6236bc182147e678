//! Files made in memory, for the reader's tests.

mod faults;
mod functions;
mod fusing;
mod hostile;
mod inputs;
mod older;
mod optimised;
mod outputs;
mod quantised;
mod reading;
mod shapes;

use half::f16;
use prost::Message;

use super::proto::*;
use crate::error::Result;
use crate::model::{Graph, Source};

/// A file in the making; input `pixels`, `[n, 3, 8, 8]`.
#[derive(Clone)]
pub struct File {
    pub model: ModelProto,
}

impl File {
    pub fn new(nodes: Vec<NodeProto>, constants: Vec<TensorProto>, outputs: &[&str]) -> Self {
        let named = |name: &&str| ValueInfoProto { name: name.to_string(), r#type: None };
        let graph = GraphProto {
            node: nodes,
            initializer: constants,
            input: vec![tensor_info("pixels", &[0, 3, 8, 8])],
            output: outputs.iter().map(named).collect(),
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
        Self {
            model: ModelProto {
                ir_version: 8,
                graph: Some(graph),
                opset_import,
                metadata_props: vec![],
                functions: vec![],
            },
        }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.as_mut().unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    pub fn read(&self) -> Result<Graph> {
        Graph::from_onnx("test", &self.bytes())
    }
}

pub fn tensor_info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&dim_value| DimensionProto { dim_value }).collect();
    let tensor = TensorTypeProto { elem_type: data_type::FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// A node called `name`, its inputs separated by spaces; the op is the name's last part. It writes its own name.
pub fn node(name: &str, inputs: &str) -> NodeProto {
    NodeProto {
        input: inputs.split_whitespace().map(str::to_owned).collect(),
        output: vec![name.into()],
        name: name.into(),
        op_type: name.rsplit('/').next().unwrap().split('_').next().unwrap().into(),
        ..NodeProto::default()
    }
}

impl NodeProto {
    pub fn writes(mut self, output: &str) -> Self {
        self.output = vec![output.into()];
        self
    }

    pub fn with(mut self, name: &str, ints: &[i64]) -> Self {
        let attribute = match ints {
            &[i] => AttributeProto { name: name.into(), i, ints: vec![i], ..AttributeProto::default() },
            ints => AttributeProto { name: name.into(), ints: ints.to_vec(), ..AttributeProto::default() },
        };
        self.attribute.push(attribute);
        self
    }

    pub fn saying(mut self, name: &str, text: &str) -> Self {
        let (name, s) = (name.into(), text.into());
        self.attribute.push(AttributeProto { name, s, ..AttributeProto::default() });
        self
    }

    pub fn with_float(mut self, name: &str, f: f32) -> Self {
        let (name, floats) = (name.into(), vec![f]);
        self.attribute.push(AttributeProto { name, f, floats, ..AttributeProto::default() });
        self
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// Whole numbers of 8 bits, with a sign or without.
pub fn bytes(name: &str, dims: &[i64], values: &[i32], signed: bool) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: if signed { data_type::INT8 } else { data_type::UINT8 },
        int32_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// Half-precision weights 0, 1, 2, … behind which the file puts a Cast.
pub fn halves(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>();
    let raw_data = (0..count).flat_map(|value| f16::from_f32(value as f32).to_le_bytes()).collect();
    let dims = dims.to_vec();
    TensorProto { name: name.into(), dims, data_type: data_type::FLOAT16, raw_data, ..TensorProto::default() }
}

/// A chain with a side exit, as PyTorch writes it: normalisation, conv + batch norm + relu, pools, two heads.
pub fn chain() -> File {
    let nodes = vec![
        node("/conv1/conv/Cast", "conv1.half").writes("conv1.weight").with("to", &[1]),
        node("/normalize/Sub", "pixels mean"),
        node("/normalize/Div", "/normalize/Sub std"),
        node("/conv1/conv/Conv", "/normalize/Div conv1.weight").with("pads", &[1, 1, 1, 1]),
        node("/conv1/bn/BatchNormalization", "/conv1/conv/Conv gamma beta running.mean running.var"),
        node("/conv1/relu/Relu", "/conv1/bn/BatchNormalization"),
        node("/pool1/MaxPool", "/conv1/relu/Relu").with("kernel_shape", &[2, 2]).with("strides", &[2, 2]),
        node("/exit1/flatten/Flatten", "/pool1/MaxPool"),
        node("/exit1/fc/Gemm", "/exit1/flatten/Flatten fc1.weight fc1.bias")
            .with("transB", &[1])
            .writes("exit1"),
        node("/conv2/Conv", "/pool1/MaxPool conv2.weight").with("strides", &[2, 2]),
        node("/Relu", "/conv2/Conv"),
        node("/avgpool/GlobalAveragePool", "/Relu"),
        node("/Reshape", "/avgpool/GlobalAveragePool target"),
        node("/classifier/drop/Dropout", "/Reshape"),
        node("/classifier/fc/MatMul", "/classifier/drop/Dropout fc2.weight"),
        node("/classifier/fc/Add", "/classifier/fc/MatMul fc2.bias"),
        node("/Softmax", "/classifier/fc/Add").writes("final"),
    ];
    let constants = vec![
        halves("conv1.half", &[2, 3, 3, 3]),
        floats("mean", &[1, 3, 1, 1], &[10.0, 20.0, 30.0]),
        floats("std", &[3, 1, 1], &[2.0, 4.0, 5.0]),
        floats("gamma", &[2], &[2.0, 3.0]),
        floats("beta", &[2], &[0.5, 0.25]),
        floats("running.mean", &[2], &[1.0, 2.0]),
        floats("running.var", &[2], &[1.0, 4.0]),
        halves("fc1.weight", &[4, 32]),
        floats("fc1.bias", &[4], &[1.0; 4]),
        halves("conv2.weight", &[5, 2, 2, 2]),
        ints("target", &[-1, 5]),
        halves("fc2.weight", &[5, 4]),
        floats("fc2.bias", &[4], &[1.0, 2.0, 3.0, 4.0]),
    ];
    File::new(nodes, constants, &["exit1", "final"])
}

/// `name: op(inputs) -> shape` for every layer.
pub fn outline(graph: &Graph) -> Vec<String> {
    let line = |layer: &crate::model::Layer| {
        let inputs: Vec<&str> =
            layer.inputs.iter().map(|&source: &Source| graph.tensor_name(source)).collect();
        format!("{}: {}({}) -> {}", layer.name, layer.op.label(), inputs.join(", "), layer.output)
    };
    graph.layers.iter().map(line).collect()
}
