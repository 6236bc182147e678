use super::super::proto::NodeProto;
use super::super::tests::node;
use super::*;

fn folded(proto: NodeProto, inputs: &[Constant]) -> Option<(Vec<usize>, Vec<f64>)> {
    let value = constants(&Node { proto: &proto, opset: 17 }, inputs, &mut Budget::for_file(0)).unwrap()?;
    Some(match value {
        Constant::Float(weights) => (weights.shape.clone(), weights.data.iter().map(|&v| v.into()).collect()),
        Constant::Int(ints) => (ints.shape.clone(), ints.data.iter().map(|&v| v as f64).collect()),
    })
}

fn list(values: &[i64]) -> Constant {
    Constant::int(vec![values.len()], values.to_vec())
}

fn fails(op: &str, inputs: &[Constant]) -> bool {
    let proto = node(op, "");
    constants(&Node { proto: &proto, opset: 17 }, inputs, &mut Budget::for_file(0)).is_err()
}

#[test]
fn arithmetic_broadcasts() {
    let single = Constant::int(vec![], vec![3]);
    assert_eq!(folded(node("Mul", ""), &[list(&[2, 5]), single.clone()]).unwrap().1, [6.0, 15.0]);
    assert_eq!(folded(node("Sub", ""), &[single, list(&[2, 5])]).unwrap().1, [1.0, -2.0]);
    assert!(fails("Add", &[list(&[1, 2]), list(&[1, 2, 3])]));
    let rows = Constant::int(vec![2, 1], vec![10, 20]);
    let sums = folded(node("Add", ""), &[rows, list(&[1, 2])]).unwrap();
    assert_eq!(sums, (vec![2, 2], vec![11.0, 12.0, 21.0, 22.0]));
    assert_eq!(folded(node("Less", ""), &[list(&[1, 3]), list(&[2])]).unwrap().1, [1.0, 0.0]);
    assert_eq!(folded(node("Div", ""), &[list(&[1]), list(&[0])]), None);
    assert_eq!(folded(node("Mul", ""), &[list(&[i64::MAX]), list(&[2])]), None);
    assert_eq!(folded(node("Add", ""), &[list(&[]), list(&[1])]).unwrap().0, [0]);
}

#[test]
fn shapes_are_picked_apart_and_joined() {
    let shape = list(&[1, 8, 4, 4]);
    assert_eq!(folded(node("Gather", ""), &[shape.clone(), list(&[-1, 1])]).unwrap().1, [4.0, 8.0]);
    assert!(fails("Gather", &[shape.clone(), list(&[4])]));
    assert_eq!(folded(node("Concat", ""), &[list(&[1]), list(&[-1])]).unwrap().1, [1.0, -1.0]);
    let square = Constant::int(vec![2, 2], vec![1, 2, 3, 4]);
    assert_eq!(folded(node("Transpose", ""), std::slice::from_ref(&square)).unwrap().1, [1.0, 3.0, 2.0, 4.0]);
    let beside = folded(node("Concat", "").with("axis", &[1]), &[square.clone(), square]).unwrap();
    assert_eq!(beside, (vec![2, 4], vec![1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]));
}

#[test]
fn shapes_are_filled_counted_and_chosen() {
    let single = |value| Constant::int(vec![], vec![value]);
    assert_eq!(folded(node("ConstantOfShape", ""), &[list(&[2, 1])]).unwrap(), (vec![2, 1], vec![0.0; 2]));
    assert!(fails("ConstantOfShape", &[list(&[1 << 40])]));
    assert!(fails("ConstantOfShape", &[list(&[-1])]));
    assert_eq!(folded(node("Expand", ""), &[single(7), list(&[1, 2])]).unwrap(), (vec![1, 2], vec![7.0; 2]));
    assert!(fails("Expand", &[single(7), list(&[1 << 40, 1 << 40])]));
    let range = |start, limit, step| folded(node("Range", ""), &[single(start), single(limit), single(step)]);
    assert_eq!(range(0, 5, 2).unwrap().1, [0.0, 2.0, 4.0]);
    assert_eq!(range(3, 0, -1).unwrap().1, [3.0, 2.0, 1.0]);
    assert!(range(3, 0, 1).unwrap().1.is_empty());
    assert!(fails("Range", &[single(0), single(i64::MAX), single(1)]));
    assert!(fails("Range", &[single(0), single(1), single(0)]));
    let chosen = folded(node("Where", ""), &[list(&[1, 0]), list(&[-1, -1]), list(&[8, 9])]);
    assert_eq!(chosen.unwrap().1, [-1.0, 9.0]);
    assert_eq!(folded(node("ReduceProd", ""), &[list(&[2, 3])]).unwrap(), (vec![1], vec![6.0]));
}

#[test]
fn reshapes_are_worked_out_or_refused() {
    let proto = node("Reshape", "");
    let reshape = |from: &[usize], target: &[i64]| {
        reshaped(&Node { proto: &proto, opset: 17 }, from, target).map_err(|error| error.to_string())
    };
    assert_eq!(reshape(&[1, 8, 4, 4], &[0, -1]).unwrap(), [1, 128]);
    assert_eq!(reshape(&[1, 8, 4, 4], &[-1, 128]).unwrap(), [1, 128]);
    let senseless: [&[i64]; 7] =
        [&[0, 0, 0, 0, 0], &[-1, -1], &[-2, 128], &[1, 127], &[-1, 100], &[i64::MAX; 4], &[-1, i64::MAX, 4]];
    for target in senseless {
        assert!(reshape(&[1, 8, 4, 4], target).is_err(), "{target:?}");
    }
}

#[test]
fn axes_come_and_go() {
    let scalar = Constant::int(vec![], vec![7]);
    assert_eq!(folded(node("Unsqueeze", ""), &[scalar.clone(), list(&[0])]).unwrap().0, [1]);
    assert_eq!(folded(node("Unsqueeze", "").with("axes", &[-1]), &[list(&[1, 2])]).unwrap().0, [2, 1]);
    assert_eq!(folded(node("Squeeze", ""), &[list(&[7]), list(&[0])]).unwrap().0, Vec::<usize>::new());
    assert!(fails("Squeeze", &[list(&[1, 2]), list(&[0])]));
    assert!(fails("Unsqueeze", &[scalar, list(&[0, 0])]));
}
